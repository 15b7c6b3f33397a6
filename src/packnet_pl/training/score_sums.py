"""Adds up, over the steps of a Lightning fit, the gradients that a prune score is made of."""

from typing import Any

import pytorch_lightning as pl
from torch.optim import LBFGS

from packnet_pl.core import GradientScore, PackNet

__all__ = ["ScoreSums"]


class ScoreSums:
    """Shows PackNet the gradients of each step, and refuses a fit in which it cannot.

    Args:
        trainer: Of the fit; its optimizers are there.
        packnet: With an open task.
        score: What the task is to be pruned by.

    Raises:
        ValueError: If no step will be made, or an optimizer computes gradients several times for one.
    """

    def __init__(self, trainer: pl.Trainer, packnet: PackNet, score: GradientScore) -> None:
        self._packnet, self._score, self._seen = packnet, score, False
        if trainer.max_epochs == 0 and packnet.state.accumulators is None:
            raise ValueError(
                f"prune score {score.name} adds up gradients of each step, and this fit has none (max_epochs=0): train "
                "at least one epoch, or prune by magnitude"
            )
        if any(isinstance(optimizer, LBFGS) for optimizer in trainer.optimizers):
            raise ValueError(
                f"prune score {score.name} adds up one gradient for each step, and LBFGS computes several: use another "
                "optimizer, or prune by magnitude"
            )

    def before_step(self, optimizer: Any) -> None:
        """Adds the gradients that ``optimizer`` is about to see."""
        groups = getattr(optimizer, "param_groups", None)
        of = None if groups is None else [parameter for group in groups for parameter in group["params"]]
        self._packnet.accumulate_(self._score, of)
        self._seen = True

    def after_step(self) -> None:
        """Checks that the step that was made has been shown before.

        Raises:
            ValueError: If it went past Lightning.
        """
        if not self._seen:
            raise ValueError(
                f"prune score {self._score.name} adds up the gradients of each step, and one went past Lightning: step "
                "the optimizers of self.optimizers(), or prune by magnitude"
            )
        self._seen = False
