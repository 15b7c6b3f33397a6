"""What a step leaves: finished tasks are restored right after it, and no hook stays."""

import pytest
import pytorch_lightning as pl
import torch
from timm.optim import Lookahead
from torch import nn

from packnet_pl import PackNetCallback
from tests.support.callbacks import AfterSteps
from tests.support.fits import (
    MOMENTUM,
    OwnModule,
    fit_own,
    fit_phase,
    loader,
    quiet,
    same,
    step_hooks,
    tensors,
    used_by,
)


def test_a_step_leaves_no_hooks_on_the_optimizer():
    module = OwnModule()
    trainer = fit_phase(module, "a", "train", 0.5)
    assert [step_hooks(optimizer) for optimizer in trainer.optimizers] == [0]


def lookahead(parameters):
    """An optimizer around another one, which never runs torch's constructor."""
    return Lookahead(MOMENTUM(parameters), k=2)


@pytest.mark.parametrize("optimizer", [MOMENTUM, lookahead], ids=["torch's", "another"])
def test_finished_tasks_are_restored_right_after_each_step_and_before_anybody_else_looks(optimizer):
    module = OwnModule(optimizer)
    fit_own(module, "a")
    finished = used_by(module.packnet, 1)
    seen = []

    class Looks(pl.Callback):
        def on_before_zero_grad(self, trainer, pl_module, optimizer):
            seen.append(same(used_by(pl_module.packnet, 1), finished))

    module.task = "b"
    callback = PackNetCallback(task="b", phase="train", prune_ratio=0.5, private="heads.b")
    trainer = quiet(Looks(), callback, max_epochs=2)
    trainer.fit(module, loader())
    assert seen == [True] * 8
    assert same(used_by(module.packnet, 1), finished)
    assert "step" not in vars(trainer.optimizers[0])
    assert step_hooks(trainer.optimizers[0]) == 0


class Manual(OwnModule):
    """Steps by itself: one optimizer for the shared part and one for the heads, twice in a batch."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.after = []

    def configure_optimizers(self):
        return MOMENTUM(self.backbone.parameters()), MOMENTUM(self.heads.parameters())

    def training_step(self, batch, batch_idx):
        x, y = batch
        for optimizer in self.optimizers():
            optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self(x), y)
        self.manual_backward(loss, retain_graph=True)
        heads, shared = reversed(self.optimizers())
        heads.step()
        shared.step()
        self.after.append(used_by(self.packnet, len(self.packnet.tasks)))


def test_under_manual_optimization_finished_tasks_are_restored_after_each_step():
    module = Manual()
    fit_own(module, "a")
    module.after.clear()
    finished = used_by(module.packnet, 1)
    fit_own(module, "b")
    assert len(module.after) == 8
    assert all(same(seen, finished) for seen in module.after)


class PastLightning(Manual):
    """Steps torch's optimizers themselves, of which Lightning sees nothing; records the gradients that are frozen."""

    def __init__(self):
        super().__init__()
        self.frozen = []

    def training_step(self, batch, batch_idx):
        x, y = batch
        self.manual_backward(nn.functional.cross_entropy(self(x), y))
        owners, number = self.packnet.owners, len(self.packnet.tasks) + 1
        for name, owner in owners.items():
            self.frozen.append(self.backbone.get_parameter(name).grad[owner != number].clone())
        for optimizer in self.optimizers(use_pl_optimizer=False):
            optimizer.step()
            optimizer.zero_grad()
        self.after.append(used_by(self.packnet, len(self.packnet.tasks)))


def test_a_step_past_lightning_finds_masked_gradients_and_is_followed_by_a_restore():
    module = PastLightning()
    fit_own(module, "a")
    module.after.clear()
    module.frozen.clear()
    finished = used_by(module.packnet, 1)
    fit_own(module, "b")
    assert all(len(grad) for grad in module.frozen)
    assert not any(grad.any() for grad in module.frozen)
    assert len(module.after) == 8
    assert all(same(seen, finished) for seen in module.after)


class MovingCentre(nn.Module):
    """Writes to its buffers in each forward pass, in any mode, where autograd does not count it."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("var", torch.ones(1))

    def forward(self, x):
        return nn.functional.batch_norm(x, self.mean, self.var, training=True)


def test_buffers_that_layers_write_to_are_put_back_after_each_batch():
    module = OwnModule()
    module.backbone.conv = nn.Sequential(MovingCentre(), module.backbone.conv)
    fit_own(module, "a")
    before, seen = tensors(module.backbone.conv[0]), []
    assert before["mean"].any()
    module.task = "b"
    callback = PackNetCallback(task="b", phase="train", prune_ratio=0.5, private="heads.b")
    watch = AfterSteps(lambda fitted: seen.append(same(tensors(fitted.backbone.conv[0]), before)))
    with pytest.warns(UserWarning, match="is a buffer that its layer changes") as caught:
        quiet(callback, watch).fit(module, loader())
    told = [str(warning.message) for warning in caught if "is a buffer that" in str(warning.message)]
    assert [text.split()[0] for text in told] == ["conv.0.mean"]
    assert seen == [True] * 4


def test_the_module_keeps_its_names_hooks_and_modules():
    module = OwnModule()
    keys, names = list(module.state_dict()), [name for name, _ in module.named_modules()]
    fit_own(module, "a")
    fit_own(module, "b")
    assert list(module.state_dict()) == keys
    assert [name for name, _ in module.named_modules()] == names
    for kind in ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks"):
        assert not any(getattr(layer, kind) for layer in module.modules())
