"""Learning rate schedules."""

import math

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

__all__ = ["warmup_cosine"]


def warmup_cosine(optimizer: Optimizer, *, total_steps: int, warmup: float = 0.1) -> LambdaLR:
    """Returns a per-step schedule: linear rise to the optimizer's rate, then a half cosine down to zero.

    Args:
        optimizer: Its learning rates are the highest ones.
        total_steps: Optimizer steps of the whole fit, 1 or more.
        warmup: Share of the steps spent rising, in [0, 1).

    Raises:
        ValueError: If ``total_steps`` or ``warmup`` is out of range.
    """
    if total_steps < 1:
        raise ValueError(
            f"total_steps is {total_steps}; allowed is 1 or more: give the Trainer max_epochs or max_steps"
        )
    if not 0 <= warmup < 1:
        raise ValueError(f"warmup is {warmup!r}; allowed is a share of the steps in [0, 1)")
    rising = round(warmup * total_steps)

    def factor(step: int) -> float:
        if step < rising:
            return (step + 1) / (rising + 1)
        done = (step - rising) / max(1, total_steps - rising)
        return (1 + math.cos(math.pi * min(1.0, done))) / 2

    return LambdaLR(optimizer, factor)
