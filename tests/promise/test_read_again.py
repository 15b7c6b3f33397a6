"""Modules that read a checkpoint."""

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from packnet_pl import PackNetCallback, TaskClassifier
from packnet_pl.training import Recipe
from tests.support.promise.checker import Promise, Subject, bits
from tests.support.promise.own_modules import (
    FEATURES,
    MOMENTUM,
    ConvNet,
    OwnModule,
    fit_phase,
    images,
    loader,
    quiet,
    subject,
    trainer,
)

pytestmark = pytest.mark.promise("In the middle")


@pytest.mark.promise("In the middle", label="a fresh module goes on from a checkpoint written in the middle of phase")
@pytest.mark.parametrize("phase", ["train", "retrain"])
def test_a_resume_in_a_fresh_module(phase, tmp_path):
    module = OwnModule()
    promise = Promise(subject(module), f"resumed in phase {phase}")
    promise.fit("a", trainer=trainer())
    if phase == "retrain":
        fit_phase(module, "b", "train", 0.5)
    written = ModelCheckpoint(tmp_path, filename="{step}", every_n_train_steps=3, save_top_k=-1)
    ratio = 0.5 if phase == "train" else None
    fit_phase(module, "b", phase, ratio, callbacks=[written], enable_checkpointing=True, max_epochs=2)
    files = sorted(tmp_path.iterdir())
    assert len(files) == 2
    for number, file in enumerate(files):
        torch.manual_seed(1000 + number)
        fresh = OwnModule()
        resumed = Promise(subject(fresh), f"resumed from {file.name}, phase {phase}")
        resumed.finished = dict(promise.finished)
        fit_phase(fresh, "b", phase, ratio, ckpt_path=file, max_epochs=2)
        resumed.check(after="b, which was resumed")
        if phase == "train":
            resumed.fit("b", trainer=trainer())
        resumed.fit("c", trainer=trainer())


def classifier_subject(model):
    def ask(task):
        features = model.backbone(images(1))
        return [features, model.heads[task](features)]

    return Subject(model, lambda task: loader(task[-1]), ask, model.select_task, model.private_modules)


@pytest.mark.promise("In the middle", label="TaskClassifier.load_from_checkpoint")
@pytest.mark.parametrize("opened", [False, True], ids=["none open", "one open"])
@pytest.mark.parametrize("finished", [1, 2, 5], ids=["1 finished task", "2 finished tasks", "5 finished tasks"])
def test_a_task_classifier_is_loaded_from_a_checkpoint(finished, opened, tmp_path):
    recipes = {"train": Recipe(MOMENTUM), "retrain": Recipe(MOMENTUM)}
    model = TaskClassifier(ConvNet(), num_features=FEATURES, recipes=recipes)
    promise = Promise(classifier_subject(model), f"TaskClassifier with {finished} tasks")
    tasks = [f"task {number}" for number in range(finished)]
    for task in tasks:
        model.add_task(task, num_classes=3)
        promise.fit(task, trainer=trainer())
    if opened:
        model.add_task("open 1", num_classes=3)
        callback = PackNetCallback(task="open 1", phase="train", prune_ratio=0.5)
        quiet(callback).fit(model, loader("a"))
    writer = quiet()
    writer.strategy.connect(model)
    writer.save_checkpoint(tmp_path / "last.ckpt")

    torch.manual_seed(1)
    backbone = ConvNet()
    loaded = TaskClassifier.load_from_checkpoint(
        tmp_path / "last.ckpt", backbone=backbone, num_features=FEATURES, recipes=recipes
    )
    assert (loaded.packnet.tasks, loaded.packnet.open_task) == (tasks, "open 1" if opened else None)
    promise.subject = classifier_subject(loaded)
    promise.check(after="the loading")
    for task in tasks:
        answer = bits(loaded(images(1), task=task))
        assert torch.equal(answer, promise.finished[task].answers[1])
    if not opened:
        loaded.add_task("open 1", num_classes=3)
    promise.fit("open 1", trainer=trainer())
    loaded.packnet.verify()
