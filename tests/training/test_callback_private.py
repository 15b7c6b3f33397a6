"""Private modules stand still after their task, in the fit of a LightningModule that knows nothing of PackNet."""

import torch
from torch import nn

from tests.support.fits import (
    OwnModule,
    fit_own,
    same,
    tensors,
)


class AllHeads(OwnModule):
    """Trains every head in every step: earlier heads get gradients from later tasks."""

    def training_step(self, batch, batch_idx):
        x, y = batch
        features = self.backbone(x)
        return sum(nn.functional.cross_entropy(head(features), y) for head in self.heads.values())


def test_private_heads_stand_still_even_if_later_tasks_run_them():
    module = AllHeads()
    fit_own(module, "a", free="heads")
    head = tensors(module.heads["a"])
    fit_own(module, "b", free="heads")
    assert same(tensors(module.heads["a"]), head)


def test_private_heads_move_if_nothing_holds_them(monkeypatch):
    monkeypatch.setattr("packnet_pl.training.private_modules._private_modules", lambda *_: {})
    module = AllHeads()
    fit_own(module, "a", free="heads")
    head = tensors(module.heads["a"])
    fit_own(module, "b", ratio=None, free="heads")
    assert not any(torch.equal(value, head[name]) for name, value in tensors(module.heads["a"]).items())
