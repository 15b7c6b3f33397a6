"""Inference mode, in which tensors are not known to autograd."""

from contextlib import contextmanager

import pytest
import torch

from packnet_pl import PackNet
from tests.support.promise.asking import AsksInTheMiddle
from tests.support.promise.checker import Promise, bits
from tests.support.promise.own_modules import (
    OwnModule,
    images,
    loader,
    quiet,
    subject,
    trainer,
)

pytestmark = pytest.mark.promise("In the middle")


class AsksInTest(OwnModule):
    """Asks every finished task in ``Trainer.test``, which runs in inference mode."""

    def test_step(self, batch, batch_idx):
        assert torch.is_inference_mode_enabled()
        self.answers = {}
        for task in self.packnet.tasks:
            with self.packnet.subnetwork(task):
                features = self.backbone(images(1))
                self.answers[task] = [bits(features), bits(self.heads[task](features))]


def test_finished_tasks_are_tested_in_inference_mode_between_tasks():
    module = AsksInTest()
    promise = Promise(subject(module), "Trainer.test")
    for task in ("a", "b", "c"):
        promise.fit(task, trainer=trainer())
        module.eval()
        quiet().test(module, loader(task), verbose=False)
        module.train()
        for earlier, answers in module.answers.items():
            assert all(map(torch.equal, answers, promise.finished[earlier].answers)), f"{earlier!r} after {task!r}"
        promise.check(after=f"{task} and a test")


@pytest.mark.promise("In the middle", label="torch.inference_mode around")
@pytest.mark.parametrize("what", ["subnetwork", "begin_task", "restore_", "prune", "finish_task"])
def test_inference_mode_around(what, monkeypatch):
    called = []
    inside = getattr(PackNet, what)

    def without_autograd(self, *args, **kwargs):
        called.append(what)
        with torch.inference_mode():
            return inside(self, *args, **kwargs)

    @contextmanager
    def view_without_autograd(self, task):
        called.append(what)
        with torch.inference_mode(), inside(self, task):
            yield

    monkeypatch.setattr(PackNet, what, view_without_autograd if what == "subnetwork" else without_autograd)
    promise = Promise(subject(OwnModule()), f"inference_mode around {what}")
    for task in ("a", "b", "c"):
        promise.fit(task, trainer=trainer(lambda: AsksInTheMiddle(promise, "on_train_epoch_start")))
    promise.subject.module.packnet.verify()
    assert called
