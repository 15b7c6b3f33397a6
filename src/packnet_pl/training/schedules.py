"""Learning rate schedules."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, MultiStepLR

__all__ = ["step_decay", "warmup_cosine"]


def step_decay(optimizer: Optimizer, *, total_steps: int, at: float = 0.5, gamma: float = 0.1) -> MultiStepLR:
    """Returns a per-step schedule: the optimizer's rate, and from one step on ``gamma`` times that.

    The defaults are the PackNet paper's: a tenth of the rate after half of the epochs.

    Args:
        optimizer: Its learning rates are those of the beginning.
        total_steps: Optimizer steps of the whole fit, 1 or more.
        at: Share of the steps before the drop, in (0, 1); rounded to whole steps, at least one.
        gamma: Factor, above 0.

    Raises:
        ValueError: If an argument is out of range.
    """
    _check_total(total_steps)
    if not 0 < at < 1:
        raise ValueError(f"at is {at!r}; allowed is a share of the steps in (0, 1)")
    if not 0 < gamma < float("inf"):
        raise ValueError(f"gamma is {gamma!r}; allowed is a number above 0")
    return MultiStepLR(optimizer, milestones=[max(1, round(at * total_steps))], gamma=gamma)


def warmup_cosine(optimizer: Optimizer, *, total_steps: int, warmup: float = 0.1) -> LambdaLR:
    """Returns a per-step schedule: linear rise to the optimizer's rate, then a half cosine down to zero.

    Args:
        optimizer: Its learning rates are the highest ones.
        total_steps: Optimizer steps of the whole fit, 1 or more.
        warmup: Share of the steps spent rising, in [0, 1).

    Raises:
        ValueError: If ``total_steps`` or ``warmup`` is out of range.
    """
    _check_total(total_steps)
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup is {warmup!r}; allowed is a share of the steps in [0, 1)")
    rising = round(warmup * total_steps)

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / (rising + 1)
        done = (step - rising) / max(1, total_steps - rising)
        return (1 + math.cos(math.pi * min(1.0, done))) / 2

    return LambdaLR(optimizer, factor)


def _check_total(total_steps: int) -> None:
    if total_steps < 1:
        raise ValueError(
            f"total_steps is {total_steps}; allowed is 1 or more: give the Trainer max_epochs or max_steps"
        )
