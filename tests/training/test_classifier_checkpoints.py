"""Checkpoints of a TaskClassifier."""

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from packnet_pl import PackNetCallback, TaskClassifier
from packnet_pl.methods import FineTuning
from packnet_pl.models import vgg_small
from tests.support.classifier_looks import saved
from tests.support.fits import (
    RECIPES,
    SmallNet,
    bits,
    classifier,
    fit_class,
    images,
    loader,
    quiet,
    same,
    tensors,
)

TINY = {"image_size": 6, "stages": ((4,), (6,)), "hidden": 8}


@pytest.mark.parametrize("num_tasks", [1, 2, 3])
def test_load_from_checkpoint_rebuilds_all_heads(tmp_path, num_tasks):
    model = classifier(*"abc"[:num_tasks], backbone=vgg_small(**TINY))
    probe = images()
    path = saved(model, tmp_path)
    torch.manual_seed(99)
    loaded = TaskClassifier.load_from_checkpoint(path, backbone=vgg_small(**TINY), recipes=RECIPES)
    assert (loaded.tasks, loaded.selected_task) == (model.tasks, model.selected_task)
    assert loaded.heads.infos == model.heads.infos
    assert loaded.packnet.tasks == model.packnet.tasks
    assert same(tensors(loaded), tensors(model))
    for task in model.tasks:
        assert torch.equal(bits(loaded(probe, task=task)), bits(model(probe, task=task)))
    fit_class(loaded, "later", seed=9)
    for task in model.tasks:
        assert torch.equal(bits(loaded(probe, task=task)), bits(model(probe, task=task)))


def test_a_checkpoint_loads_with_weights_only(tmp_path):
    model = classifier("a")
    fit_class(
        model,
        "b",
        classes=2,
        callbacks=[ModelCheckpoint(tmp_path, filename="last")],
        enable_checkpointing=True,
    )
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert {name: info["num_classes"] for name, info in checkpoint["tasks"].items()} == {"a": 3, "b": 2}
    assert checkpoint["packnet"]["open_task"] == "b"


def test_a_checkpoint_with_another_number_of_classes_is_refused(tmp_path):
    path = saved(classifier("a"), tmp_path)
    model = TaskClassifier(SmallNet())
    model.add_task("a", num_classes=5)
    with pytest.raises(ValueError, match="task 'a' has 3 classes in the checkpoint and 5 here"):
        quiet().test(model, loader(), ckpt_path=path)


def test_a_checkpoint_of_another_module_is_refused(tmp_path):
    class Other(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.backbone = SmallNet()

    path = saved(Other(), tmp_path)
    with pytest.raises(ValueError, match="it was not written by a TaskClassifier"):
        TaskClassifier.load_from_checkpoint(path, backbone=SmallNet())


def test_a_checkpoint_of_plain_training_is_refused_by_one_that_packs(tmp_path):
    model = FineTuning(SmallNet())
    model.add_task("a", num_classes=3)
    path = saved(model, tmp_path)
    with pytest.raises(ValueError, match="does not say which task owns which weight, so no TaskClassifier wrote it"):
        TaskClassifier.load_from_checkpoint(path, backbone=SmallNet())


def test_a_checkpoint_that_says_who_owns_weights_is_refused_by_a_method_without_owners(tmp_path):
    path = saved(classifier("a"), tmp_path)
    with pytest.raises(ValueError, match="says which task owns which weight, so no FineTuning wrote it"):
        FineTuning.load_from_checkpoint(path, backbone=SmallNet())


@pytest.mark.parametrize("phase", ["train", "retrain"])
@pytest.mark.parametrize("added", [("b",), ("a", "b")], ids=["only the new task", "all tasks"])
def test_a_resumed_fit_in_a_fresh_model_ends_bit_identical(tmp_path, phase, added):
    def fit(model, ckpt_path=None):
        callback = PackNetCallback(task="b", phase=phase, prune_ratio=0.5 if phase == "train" else None)
        checkpoints = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
        trainer = quiet(callback, checkpoints, max_epochs=3, enable_checkpointing=True)
        trainer.fit(model, loader(1), ckpt_path=ckpt_path)
        return model

    model = classifier("a", backbone=SmallNet(dropout=0))
    model.add_task("b", num_classes=3)
    if phase == "retrain":
        quiet(PackNetCallback(task="b", phase="train", prune_ratio=0.5)).fit(model, loader(1))
    fit(model)
    torch.manual_seed(99)
    fresh = TaskClassifier(SmallNet(dropout=0), recipes=RECIPES)
    for task in added:
        fresh.add_task(task, num_classes=3)
    fit(fresh, ckpt_path=tmp_path / "epoch=0.ckpt")
    assert fresh.packnet.phase == model.packnet.phase
    for task in "ab":
        assert same(tensors(fresh.heads[task]), tensors(model.heads[task])), f"head of {task}"
    assert same(tensors(fresh.backbone), tensors(model.backbone))
    assert torch.equal(bits(fresh(images(), task="a")), bits(model(images(), task="a")))
