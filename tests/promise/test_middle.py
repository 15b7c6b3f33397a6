"""Finished tasks are asked, and checkpoints written, in the middle of a fit."""

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from tests.support.promise.asking import AsksInTheMiddle
from tests.support.promise.checker import Promise, bits, check_promise
from tests.support.promise.own_modules import (
    OwnModule,
    WithValidation,
    images,
    quiet,
    subject,
    trainer,
)

pytestmark = pytest.mark.promise("In the middle")


def read(file):
    """A fresh module with the weights and the state of a checkpoint."""
    fresh, found = OwnModule(), torch.load(file, weights_only=True)
    fresh.load_state_dict(found["state_dict"])
    fresh.packnet.load_state_dict(found["packnet"])
    return fresh


class ChecksCheckpoints(pl.Callback):
    """Reads each checkpoint that was written so far in a fit, at its end."""

    def __init__(self, promise, folder):
        self.promise, self.folder, self.files = promise, folder, 0

    def on_fit_end(self, trainer, pl_module):
        for file in sorted(self.folder.iterdir()):
            fresh = read(file)
            promise = Promise(subject(fresh), f"{self.promise.setting}, read from {file.name}")
            promise.finished = {task: self.promise.finished[task] for task in fresh.packnet.tasks}
            promise.check(after=pl_module.task)
            fresh.packnet.verify()
            self.files += bool(promise.finished)


VALIDATION = {
    "validation after every 2 batches, with checkpoints": {"val_check_interval": 2},
    "validation after half an epoch, with checkpoints": {"val_check_interval": 0.5},
    "sanity validation": {"num_sanity_val_steps": 2},
    "sanity validation and validation in the middle": {"num_sanity_val_steps": 2, "val_check_interval": 2},
}


@pytest.mark.parametrize("setting", VALIDATION)
def test_validation_with_checkpoints(setting, tmp_path):
    promise = Promise(subject(OwnModule(), data=WithValidation), setting)
    for number, task in enumerate(("a", "b", "c")):
        checks = ChecksCheckpoints(promise, tmp_path / str(number))

        def make(*callbacks, checks=checks):
            written = ModelCheckpoint(checks.folder, filename="{epoch} {step}", save_top_k=-1)
            settings = {"max_epochs": 2, "enable_checkpointing": True, **VALIDATION[setting]}
            return quiet(*callbacks, checks, written, **settings)

        promise.fit(task, trainer=make)
        assert checks.files >= 4 or task == "a"


PLACES = {
    "finished tasks asked between two epochs": "on_train_epoch_end",
    "finished tasks asked when an epoch begins": "on_train_epoch_start",
    "finished tasks asked after every batch": "on_train_batch_end",
    "finished tasks asked before every batch": "on_train_batch_start",
    "finished tasks asked between backward pass and step": "on_before_optimizer_step",
    "finished tasks asked in validation": "on_validation_batch_end",
    "finished tasks asked when validation begins": "on_validation_start",
}


@pytest.mark.parametrize("place", PLACES)
def test_finished_tasks_are_asked_in_the_middle(place):
    promise = Promise(subject(OwnModule(), data=WithValidation), place)
    for task in ("a", "b", "c"):
        looks = AsksInTheMiddle(promise, PLACES[place])
        promise.fit(task, trainer=trainer(lambda looks=looks: looks))
        assert looks.asked >= 2 or task == "a"


class AsksInSteps(OwnModule):
    """Asks the first task in its own steps, as a distillation loss does."""

    where = ()

    def old(self, x):
        if "a" not in self.packnet.tasks:
            return []
        with self.packnet.subnetwork("a"), torch.no_grad():
            return [bits(self.heads["a"].eval()(self.backbone(x)))]

    def training_step(self, batch, batch_idx):
        self.answers = [*self.answers, *(self.old(images(1)) if "training" in self.where else [])]
        return super().training_step(batch, batch_idx)

    def validation_step(self, batch, batch_idx):
        self.answers = [*self.answers, *(self.old(images(1)) if "validation" in self.where else [])]
        return super().validation_step(batch, batch_idx)

    answers = ()


@pytest.mark.promise("In the middle", label="the first task asked in the module's own step")
@pytest.mark.parametrize("where", ["training", "validation"])
def test_a_task_is_asked_in_steps(where):
    # The head is put in eval mode by its user, the shared part is not: it stays in training mode around the question.
    module = AsksInSteps()
    module.backbone.drop.p, module.where = 0.0, (where,)
    check_promise(subject(module, data=WithValidation), f"a asked in the {where} step", trainer=trainer())
    assert len(module.answers) >= 8
    assert all(torch.equal(answer, module.answers[0]) for answer in module.answers)
