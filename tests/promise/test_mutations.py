"""The package is broken on purpose: the checker must notice it each time, or its silence proves nothing."""

from functools import partial

import pytest
import torch
from torch import nn, optim

import packnet_pl.core.subnetwork as subnetwork_module
import packnet_pl.core.task_freezer as task_freezer_module
import packnet_pl.training.private_modules as private_module
import packnet_pl.training.task_fit as fit_module
import packnet_pl.training.task_phase as phase_module
from packnet_pl import PackNet
from packnet_pl.core.freezing import Freezer
from packnet_pl.core.inventory import Inventory
from packnet_pl.core.module_modes import EvalMode
from tests.support.promise.checker import Promise, bits
from tests.support.promise.own_modules import MOMENTUM, OwnModule, subject, trainer
from tests.support.promise.user_optimizers import InPlace

SGD = partial(optim.SGD, lr=0.1)
ADAMW = partial(optim.AdamW, lr=0.01, weight_decay=0.1)


def fit_then_break(breaks, module, setting, **fit):
    """Fits a task, breaks something, fits another task."""
    promise = Promise(subject(module), setting)
    promise.fit("a", trainer=trainer(), **fit)
    breaks()
    promise.fit("b", trainer=trainer(), ratio=None, **fit)


def never(monkeypatch, *operations):
    for owner, name in operations:
        monkeypatch.setattr(owner, name, lambda *_: [])


@pytest.mark.parametrize("optimizer", [MOMENTUM, ADAMW], ids=["SGD momentum", "AdamW"])
def test_it_notices_when_nothing_is_ever_restored(monkeypatch, optimizer):
    with pytest.raises(AssertionError, match=r"^task 'a' changed after task 'b' under some setting: conv1\.weight$"):
        fit_then_break(
            lambda: never(monkeypatch, (Freezer, "restore_"), (Freezer, "restore_all_")),
            OwnModule(optimizer),
            "some setting",
        )


def test_it_notices_when_nothing_is_restored_from_the_first_task_on(monkeypatch):
    never(monkeypatch, (Freezer, "restore_"), (Freezer, "restore_all_"))
    with pytest.raises(AssertionError, match=r"task 'a' changed after task 'b' under AdamW: conv1\.weight"):
        fit_then_break(lambda: None, OwnModule(ADAMW), "AdamW")


def test_it_notices_when_gradients_are_not_masked_and_nothing_is_restored(monkeypatch):
    # Without momentum and decay masking alone would be enough, and restoring alone hides that it is missing.
    def breaks():
        never(monkeypatch, (Freezer, "mask_gradients_"), (Freezer, "restore_"), (Freezer, "restore_all_"))

    with pytest.raises(AssertionError, match=r"task 'a' changed after task 'b' under SGD: conv1\.weight"):
        fit_then_break(breaks, OwnModule(SGD), "SGD")


def test_it_notices_when_pruned_weights_are_not_kept_at_zero(monkeypatch):
    never(monkeypatch, (Freezer, "mask_gradients_"), (Freezer, "restore_"), (Freezer, "restore_all_"))
    match = r"^pruned weights of conv1\.weight are not zero while task 'a' is retrained under SGD"
    with pytest.raises(AssertionError, match=match):
        fit_then_break(lambda: None, OwnModule(SGD), "SGD")


class WithoutHooks:
    """Sees no step."""

    seen = 1

    def __init__(self, optimizers, after):
        pass

    def remove(self):
        pass


def test_it_notices_when_nothing_comes_after_a_step(monkeypatch):
    monkeypatch.setattr(fit_module, "StepWatch", WithoutHooks)
    with pytest.raises(AssertionError, match=r"^pruned weights of conv1\.weight are not zero while task 'a'"):
        fit_then_break(lambda: None, OwnModule(InPlace), "SGD")


def test_it_notices_when_the_callback_never_restores(monkeypatch):
    def breaks():
        never(monkeypatch, (PackNet, "restore_"), (Freezer, "restore_all_"))

    with pytest.raises(AssertionError, match=r"task 'a' changed after task 'b' under SGD momentum: conv1\.weight"):
        fit_then_break(breaks, OwnModule(MOMENTUM), "SGD momentum")


def test_it_notices_when_an_optimizer_that_is_kept_alive_revives_pruned_weights(monkeypatch):
    class Keeps(OwnModule):
        kept = None

        def configure_optimizers(self):
            self.kept = self.kept or super().configure_optimizers()
            return self.kept

    never(monkeypatch, (Freezer, "restore_"), (Freezer, "restore_all_"))
    with pytest.raises(AssertionError, match=r"^pruned weights of conv1\.weight are not zero while task 'a'"):
        fit_then_break(lambda: None, Keeps(MOMENTUM), "SGD momentum")


def without_buffers(find):
    return {name: slot for name, slot in find().items() if slot.is_parameter}


def freeze_no_buffers(monkeypatch, module):
    """Freezes parameters alone."""
    freeze = module.Freezer

    def freeze_parameters(find, *given, **more):
        return freeze(partial(without_buffers, find), *given, **more)

    monkeypatch.setattr(module, "Freezer", freeze_parameters)


class NoEvalMode(EvalMode):
    def keep(self, layers):
        pass


def test_it_notices_when_running_statistics_are_left_alone(monkeypatch):
    freeze_no_buffers(monkeypatch, task_freezer_module)
    monkeypatch.setattr(task_freezer_module, "EvalMode", NoEvalMode)
    with pytest.raises(AssertionError, match=r"task 'a' changed after task 'b' under SGD: bn1\.running_mean"):
        fit_then_break(lambda: None, OwnModule(SGD), "SGD")


def test_it_notices_when_biases_are_not_held(monkeypatch):
    monkeypatch.setattr(Inventory, "fixed", {})
    monkeypatch.setattr(phase_module, "turn_off_frozen_gradients", lambda *_: None)
    with pytest.raises(AssertionError, match=r"task 'a' changed after task 'b' under SGD: conv1\.bias"):
        fit_then_break(lambda: None, OwnModule(SGD), "SGD")


class EveryHead(OwnModule):
    """Trains every head in every step."""

    def training_step(self, batch, batch_idx):
        x, y = batch
        features = self.backbone(x)
        return sum(nn.functional.cross_entropy(head(features), y) for head in self.heads.values())


def test_it_notices_when_private_modules_are_not_held(monkeypatch):
    monkeypatch.setattr(phase_module, "turn_off_frozen_gradients", lambda *_: None)
    monkeypatch.setattr(private_module, "Freezer", lambda _: Freezer(dict))
    with pytest.raises(AssertionError, match=r"task 'a' changed after task 'b' under SGD: heads\.a\.0\.weight"):
        fit_then_break(lambda: None, EveryHead(SGD), "SGD", free="heads")


def test_it_notices_when_statistics_of_private_modules_are_left_alone(monkeypatch):
    freeze_no_buffers(monkeypatch, private_module)
    monkeypatch.setattr(fit_module, "private_statistics", lambda *_: [])
    with pytest.raises(AssertionError, match=r"task 'a' changed after task 'b' under SGD: heads\.a\.1\.running_mean"):
        fit_then_break(lambda: None, EveryHead(SGD), "SGD", free="heads")


def test_it_notices_when_a_view_hides_nothing(monkeypatch):
    monkeypatch.setattr(subnetwork_module, "hide_", lambda *_: None)
    with pytest.raises(AssertionError, match=r"task 'a' changed after task 'b' under SGD: the bits of its answers"):
        fit_then_break(lambda: None, OwnModule(SGD), "SGD")


# What the checker says when the package is in order, and something else is not.


@torch.no_grad()
def last_bit(tensor, place):
    tensor[place] = torch.nextafter(tensor[place], torch.tensor(10.0))


def fitted():
    promise = Promise(subject(OwnModule()), "SGD")
    promise.fit("a", trainer=trainer())
    promise.fit("b", trainer=trainer())
    return promise


def test_it_notices_the_last_bit_of_a_weight():
    promise = fitted()
    weight = promise.subject.module.backbone.fc2.weight
    place = tuple((promise.subject.module.packnet.owners["fc2.weight"] == 2).nonzero()[0])
    last_bit(weight, place)
    with pytest.raises(AssertionError, match=r"^task 'b' changed after task 'nothing' under SGD: fc2\.weight$"):
        promise.check(after="nothing")


def test_it_compares_bits():
    zero, nan = torch.zeros(3), torch.full((3,), float("nan"))
    assert not torch.equal(bits(zero), bits(-zero))
    assert torch.equal(bits(nan), bits(nan))
    assert not torch.equal(bits(zero.bfloat16()), bits(-zero.bfloat16()))


def test_it_notices_other_answers_from_the_same_weights():
    promise = fitted()
    promise.subject.module.heads["b"][2].negative_slope = 0.5
    with pytest.raises(AssertionError, match=r"^task 'b' changed after task 'b' under SGD: the bits of its answers$"):
        promise.check(after="b")


def test_it_demands_that_something_was_learned():
    with pytest.raises(AssertionError, match="task 'a' learned nothing under SGD without a rate"):
        fit_then_break(lambda: None, OwnModule(partial(optim.SGD, lr=0.0)), "SGD without a rate")


def test_it_demands_that_batches_were_watched():
    promise = Promise(subject(OwnModule()), "no batches")
    with pytest.raises(AssertionError, match="no batch was watched"):
        promise.fit("a", trainer=trainer(limit_train_batches=0))


def test_it_looks_before_any_other_callback_has_put_something_right():
    """In strict checks what is pruned must be zero right after the step, not only at the end of the batch."""

    class Revives(OwnModule):
        def optimizer_step(self, *args, **kwargs):
            super().optimizer_step(*args, **kwargs)
            with torch.no_grad():
                self.backbone.conv1.weight.add_(1)

    promise = Promise(subject(Revives(SGD)), "SGD")
    with pytest.raises(AssertionError, match=r"^pruned weights of conv1\.weight are not zero while task 'a'"):
        promise.fit("a", trainer=trainer())
