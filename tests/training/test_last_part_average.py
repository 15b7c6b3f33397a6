"""The mean of the weights over the last part of a fit."""

import pytest
import pytorch_lightning as pl
import torch

from packnet_pl.training import LastPartAverage
from tests.support.fits import OwnModule, fit_phase


class Steps(pl.Callback):
    """The first convolution after each step."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, module, *_):
        self.seen.append(module.backbone.conv.weight.detach().double().clone())


@pytest.mark.parametrize(("last", "steps"), [(0.5, 4), (0.01, 1), (1, 8), (0.3, 2)])
def test_it_is_the_mean_over_the_last_steps(last, steps):
    module, seen, ends = OwnModule(dropout=0), Steps(), []

    class End(pl.Callback):
        def on_train_end(self, trainer, module):
            ends.append(module.backbone.conv.weight.detach().double().clone())

    fit_phase(module, "a", ratio=0.5, callbacks=[seen, LastPartAverage(last), End()], max_epochs=2)
    assert len(seen.seen) == 8
    assert torch.allclose(ends[0], torch.stack(seen.seen[-steps:]).mean(dim=0), atol=1e-6)


@pytest.mark.parametrize("last", [0, -1, 1.5, "half", float("nan")])
def test_a_part_that_is_none_is_refused(last):
    with pytest.raises(ValueError, match=rf"last is {last!r}; allowed is a share of the steps in \(0, 1\]"):
        LastPartAverage(last)
