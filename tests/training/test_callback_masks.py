"""What a step sees: gradients of what is frozen are zero or absent, pruned weights are zero."""

from functools import partial

import pytest
from torch import nn
from torch.optim import SGD, Adam, AdamW

from packnet_pl.core.freezing import Freezer
from tests.support.callbacks import AfterSteps
from tests.support.fits import (
    MOMENTUM,
    OwnModule,
    bits,
    fit_own,
    fit_phase,
    wanted,
)

OPTIMIZERS = {
    "SGD": partial(SGD, lr=0.1),
    "SGD momentum decay": MOMENTUM,
    "Adam": partial(Adam, lr=0.01),
    "AdamW decay": partial(AdamW, lr=0.01, weight_decay=0.1),
}


class Norms(OwnModule):
    """Records, where Lightning clips, the norm of all gradients and of those that may move something."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seen = []

    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None):
        owners, number = self.packnet.owners, len(self.packnet.tasks) + 1
        frozen = [
            parameter.grad[owners[name] != number] if name in owners else parameter.grad
            for name, parameter in self.backbone.named_parameters()
            if parameter.grad is not None
        ]
        grads = [parameter.grad for parameter in self.parameters() if parameter.grad is not None]
        before = nn.utils.get_total_norm(grads)
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)
        self.seen.append((frozen, before, nn.utils.get_total_norm(grads)))


def test_frozen_gradients_are_exactly_zero_before_clipping():
    module = Norms(partial(SGD, lr=0.1))
    fit_own(module, "a", gradient_clip_val=1e-3)
    module.seen.clear()
    fit_own(module, "b", gradient_clip_val=1e-3)
    assert len(module.seen) == 2 * 4
    for frozen, before, after in module.seen:
        assert len(frozen) == 2
        assert not any(grad.any() for grad in frozen)
        assert before > 1e-3
        # All of the norm that clipping leaves belongs to what may move.
        assert after.item() == pytest.approx(1e-3, rel=1e-3)


def test_frozen_gradients_are_seen_before_clipping_if_nobody_masks_them(monkeypatch):
    monkeypatch.setattr(Freezer, "mask_gradients_", lambda _: None)
    module = Norms(partial(SGD, lr=0.1))
    fit_own(module, "a", gradient_clip_val=1e-3)
    module.seen.clear()
    fit_own(module, "b", gradient_clip_val=1e-3)
    assert any(grad.any() for frozen, *_ in module.seen for grad in frozen)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_pruned_weights_are_exactly_zero_after_every_step_of_retraining(optimizer):
    def look(module):
        for name, owner in module.packnet.owners.items():
            released = bits(module.backbone.get_parameter(name))[owner == 0]
            assert len(released) > 0
            assert not released.any()

    module = OwnModule(OPTIMIZERS[optimizer])
    for task in ("a", "b"):
        fit_phase(module, task, "train", 0.5)
        watch = AfterSteps(look)
        fit_phase(module, task, "retrain", callbacks=[watch], max_epochs=2)
        assert watch.calls == 8


def test_the_frozen_set_needs_no_gradient_during_later_fits_and_does_so_again_afterwards():
    module = OwnModule()
    module.backbone.fc.bias.requires_grad_(False)
    before, during = wanted(module), []
    watch = AfterSteps(lambda fitted: during.append(wanted(fitted)))
    fit_own(module, "a", callbacks=[watch])
    assert all(seen == before for seen in during)
    during.clear()
    fit_own(module, "b", callbacks=[watch])
    frozen = {"backbone.conv.bias", "backbone.bn.weight", "backbone.bn.bias", "backbone.fc.bias"}
    frozen |= {name for name in before if name.startswith("heads.a.")}
    assert len(during) == 8
    for seen in during:
        assert {name for name, needed in seen.items() if not needed} == frozen
    assert wanted(module) == before


def test_settled_sees_the_module_as_it_will_answer_with_its_own_gradients():
    # By requires_grad torch chooses kernels, and other kernels round otherwise.
    module, seen = OwnModule(), []
    module.backbone.fc.bias.requires_grad_(False)
    before = wanted(module)
    for task in "ab":
        fit_own(module, task, settled=lambda fitted: seen.append(wanted(fitted)))
    assert seen == [before, before]


def test_gradients_stop_before_the_optimizer_is_made():
    class Asked(OwnModule):
        def configure_optimizers(self):
            self.asked = wanted(self)
            return super().configure_optimizers()

    module = Asked()
    fit_own(module, "a")
    fit_phase(module, "b", "train", 0.5)
    assert not module.asked["backbone.bn.weight"]
    assert not module.asked["heads.a.0.weight"]
    assert module.asked["heads.b.0.weight"]
