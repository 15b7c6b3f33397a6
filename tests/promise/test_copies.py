"""Copies of a module, between tasks and while one is open."""

import copy
import pickle

import pytest
import pytorch_lightning as pl

from tests.support.promise.checker import Promise
from tests.support.promise.own_modules import (
    OwnModule,
    fit_phase,
    subject,
    trainer,
)

pytestmark = pytest.mark.promise("In the middle")


COPIES = {"deepcopy": copy.deepcopy, "pickle": lambda module: pickle.loads(pickle.dumps(module))}


@pytest.mark.promise("In the middle", label="the module is copied between two tasks")
@pytest.mark.parametrize("how", COPIES)
def test_a_copy_between_tasks(how):
    promise = Promise(subject(OwnModule()), "copied between tasks")
    promise.fit("a", trainer=trainer())
    other = Promise(subject(COPIES[how](promise.subject.module)), "the copy")
    other.finished = dict(promise.finished)
    for task in ("b", "c"):
        other.fit(task, trainer=trainer())
        promise.check(after=f"{task} of the copy")
    promise.fit("c", trainer=trainer())
    other.check(after="c of the original")
    assert (promise.subject.module.packnet.tasks, other.subject.module.packnet.tasks) == (["a", "c"], ["a", "b", "c"])


@pytest.mark.promise("In the middle", label="the module is copied while a task is open")
@pytest.mark.parametrize("how", COPIES)
def test_a_copy_while_a_task_is_open(how):
    module = OwnModule()
    promise = Promise(subject(module), "copied while b is open")
    promise.fit("a", trainer=trainer())
    fit_phase(module, "b", "train", 0.5)
    twin = COPIES[how](module)
    other = Promise(subject(twin), "the copy")
    other.finished = dict(promise.finished)
    other.fit("b", trainer=trainer())
    other.fit("c", trainer=trainer())
    promise.check(after="c of the copy")
    assert (module.packnet.open_task, module.packnet.phase) == ("b", "retrain")
    promise.fit("b", trainer=trainer())
    other.check(after="b of the original")


class CopiesItself(pl.Callback):
    """Copies the module in the middle of a fit."""

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        if batch_idx == 1:
            self.twin = copy.deepcopy(pl_module)


def test_the_module_is_copied_in_the_middle_of_a_fit_and_the_copy_goes_on():
    module = OwnModule()
    promise = Promise(subject(module), "copied in the middle of a fit")
    promise.fit("a", trainer=trainer())
    copies = CopiesItself()
    fit_phase(module, "b", "train", 0.5, callbacks=[copies])
    other = Promise(subject(copies.twin), "the copy")
    other.finished = dict(promise.finished)
    assert (copies.twin.packnet.open_task, copies.twin.packnet.phase) == ("b", "train")
    other.fit("b", trainer=trainer())
    other.fit("c", trainer=trainer())
    promise.fit("b", trainer=trainer())
    promise.fit("c", trainer=trainer())


@pytest.mark.promise("In the middle", status="refused", label="a copy made inside subnetwork")
def test_a_copy_inside_a_view_is_refused():
    module = OwnModule()
    promise = Promise(subject(module), "copied inside subnetwork")
    promise.fit("a", trainer=trainer())
    promise.fit("b", trainer=trainer())
    with module.packnet.subnetwork("a"), pytest.raises(RuntimeError, match="subnetwork"):
        copy.deepcopy(module)
    promise.check(after="b and the copy that was refused")
