"""The recipe of a phase: how it is optimized."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from torch import nn
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler

__all__ = ["Recipe"]


@dataclass(frozen=True)
class Recipe:
    """The optimizer of one phase, and its schedule.

    Attributes:
        optimizer: Takes the parameters, returns the optimizer. The default is the paper's: SGD, momentum 0.9, 1e-3.
        scheduler: Takes the optimizer and the keyword ``total_steps``, returns a schedule that is stepped after each
            optimizer step; None keeps the rate.
    """

    optimizer: Callable[[list[nn.Parameter]], Optimizer] = field(default=partial(SGD, lr=1e-3, momentum=0.9))
    scheduler: Callable[..., LRScheduler] | None = None
