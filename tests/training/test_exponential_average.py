"""The exponential moving average of the weights over a fit."""

import pytest
import pytorch_lightning as pl
import torch

from packnet_pl.training import ExponentialAverage
from tests.support.fits import OwnModule, fit_phase


class Steps(pl.Callback):
    """The first convolution after each step, and at the end, with what averages have made of it."""

    def __init__(self):
        self.seen = []

    def on_train_batch_end(self, trainer, module, *_):
        self.seen.append(module.backbone.conv.weight.detach().double().clone())

    def on_train_end(self, trainer, module):
        self.end = module.backbone.conv.weight.detach().double().clone()


@pytest.mark.parametrize("decay", [0.99, 0.5, 0])
def test_it_is_the_recursion_that_the_docstring_states(decay):
    module, steps = OwnModule(dropout=0), Steps()
    fit_phase(module, "a", ratio=0.5, callbacks=[ExponentialAverage(decay), steps], max_epochs=2)
    average = steps.seen[0]
    for n, weights in enumerate(steps.seen[1:], start=1):
        share = min(decay, (1 + n) / (10 + n))
        average = share * average + (1 - share) * weights
    assert len(steps.seen) == 8
    assert torch.allclose(steps.end, average, atol=1e-6)


@pytest.mark.parametrize("decay", [1, -0.1, "high", float("nan")])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(ValueError, match=rf"decay is {decay!r}; allowed is a number from 0 to below 1"):
        ExponentialAverage(decay)
