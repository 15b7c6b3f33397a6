"""Checkpoints hold PackNet; a resumed fit ends bit-identical."""

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from packnet_pl import PackNet, PackNetCallback
from tests.support.callbacks import every_epoch
from tests.support.fits import (
    OwnModule,
    bits,
    fit_own,
    fit_phase,
    images,
    loader,
    quiet,
    same,
    tensors,
    wanted,
)


def answer(module, task, x):
    """Logits in eval mode. Modes are given back: Lightning trains a module in the modes that it finds."""
    modes = [(layer, layer.training) for layer in module.modules()]
    module.eval()
    with torch.no_grad():
        logits = module.heads[task](module.backbone(x))
    for layer, mode in modes:
        layer.training = mode
    return logits


def test_a_checkpoint_holds_the_state_and_loads_with_weights_only(tmp_path):
    module = OwnModule()
    fit_own(module, "a")
    fit_phase(module, "b", "train", 0.5, callbacks=[every_epoch(tmp_path)], enable_checkpointing=True)
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert checkpoint["packnet"]["tasks"] == ["a"]
    assert checkpoint["packnet"]["open_task"] == "b"
    assert checkpoint["packnet"]["phase"] == "train"
    assert checkpoint["packnet"]["private"] == {"a": ["heads.a"], "b": ["heads.b"]}
    assert list(checkpoint["packnet"]["private_fingerprints"]) == ["a"]
    assert set(checkpoint["packnet"]["private_fingerprints"]["a"]) == {
        f"heads.a.{name}" for name in module.heads["a"].state_dict()
    }


def test_a_checkpoint_of_the_best_epoch_loads_with_weights_only(tmp_path):
    module = OwnModule()
    callback = PackNetCallback(task="a", phase="train", private="heads.a", select="best")
    quiet(callback, every_epoch(tmp_path), enable_checkpointing=True).fit(module, loader(), loader())
    callbacks = torch.load(tmp_path / "last.ckpt", weights_only=True)["callbacks"]
    assert any("best" in state for state in callbacks.values())


def test_a_module_loaded_in_another_process_goes_on_with_from_checkpoint(tmp_path):
    module = OwnModule()
    fit_own(module, "a")
    probe, expected, head = images(), [], tensors(module.heads["a"])
    with module.packnet.subnetwork("a"):
        expected = answer(module, "a", probe)
    fit_phase(module, "b", "train", 0.5, callbacks=[every_epoch(tmp_path)], enable_checkpointing=True)

    fresh = OwnModule.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    fresh.packnet = PackNet.from_checkpoint(fresh.backbone, tmp_path / "last.ckpt")
    assert (fresh.packnet.tasks, fresh.packnet.open_task, fresh.packnet.phase) == (["a"], "b", "train")
    fit_own(fresh, "b")
    fit_own(fresh, "c")
    with fresh.packnet.subnetwork("a"):
        assert torch.equal(bits(answer(fresh, "a", probe)), bits(expected))
    assert same(tensors(fresh.heads["a"]), head)


@pytest.mark.parametrize("phase", ["train", "retrain"])
@pytest.mark.parametrize("task", ["a", "b"])
def test_a_resumed_fit_ends_bit_identical(tmp_path, task, phase):
    module = OwnModule(dropout=0)
    if task == "b":
        fit_own(module, "a")
    if phase == "retrain":
        fit_phase(module, task, "train", 0.5)
    ratio = 0.5 if phase == "train" else None
    settings = {"enable_checkpointing": True, "max_epochs": 4}
    fit_phase(module, task, phase, ratio, callbacks=[every_epoch(tmp_path)], **settings)

    torch.manual_seed(12345)
    fresh = OwnModule(dropout=0)
    assert not same(tensors(fresh), tensors(module))
    trainer = fit_phase(fresh, task, phase, ratio, ckpt_path=tmp_path / "epoch=1.ckpt", max_epochs=4)
    assert trainer.global_step == 16
    left, right = module.packnet.state_dict(), fresh.packnet.state_dict()
    assert {**left, "owners": None} == {**right, "owners": None}
    assert left["phase"] == ("retrain" if phase == "train" else None)
    assert same(left["owners"], right["owners"])
    assert same(tensors(fresh), tensors(module))
    assert wanted(fresh) == wanted(module)


def test_a_resume_with_no_step_left_prunes(tmp_path):
    module = OwnModule(dropout=0)
    fit_phase(module, "a", "train", 0.5, callbacks=[every_epoch(tmp_path)], enable_checkpointing=True, max_epochs=2)
    fresh = OwnModule(dropout=0)
    fit_phase(fresh, "a", "train", 0.5, ckpt_path=tmp_path / "last.ckpt", max_epochs=2)
    assert fresh.packnet.phase == "retrain"
    assert same(tensors(fresh), tensors(module))


def test_a_resume_remembers_the_best_epoch_before_it(tmp_path):
    def fit(module, ckpt_path=None):
        module.val_scores = [0.9, 0.2, 0.3]
        final = []
        own = {"private": "heads.a", "settled": lambda m: final.append(tensors(m))}
        callback = PackNetCallback(task="a", phase="train", prune_ratio=0.5, select="best", **own)
        checkpoints = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
        trainer = quiet(callback, checkpoints, max_epochs=3, enable_checkpointing=True)
        trainer.fit(module, loader(), loader(), ckpt_path=ckpt_path)
        return final[0]

    expected = fit(OwnModule(dropout=0))
    assert same(fit(OwnModule(dropout=0), ckpt_path=tmp_path / "epoch=1.ckpt"), expected)


@pytest.mark.parametrize(
    ("task", "phase", "match"),
    [
        ("a", "train", "that task is finished"),
        ("c", "train", "'b' is open"),
        ("b", "retrain", "the task is in phase 'train'"),
    ],
)
def test_a_resume_with_a_checkpoint_of_something_else_is_refused(tmp_path, task, phase, match):
    module = OwnModule()
    fit_own(module, "a")
    fit_phase(module, "b", "train", 0.5, callbacks=[every_epoch(tmp_path)], enable_checkpointing=True)
    with pytest.raises(ValueError, match=match):
        fit_phase(OwnModule(), task, phase, ckpt_path=tmp_path / "last.ckpt", max_epochs=3)


def test_a_checkpoint_without_packnet_is_refused(tmp_path):
    module = OwnModule()
    quiet(every_epoch(tmp_path), enable_checkpointing=True).fit(module, loader())
    with pytest.raises(ValueError, match="the checkpoint holds no PackNet state"):
        fit_phase(OwnModule(), "a", "train", ckpt_path=tmp_path / "last.ckpt", max_epochs=3)
    with pytest.raises(ValueError, match="holds no PackNet state"):
        PackNet.from_checkpoint(OwnModule().backbone, tmp_path / "last.ckpt")
