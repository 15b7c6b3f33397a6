"""Keeping the best epoch by a validation metric."""

import math
from copy import deepcopy
from typing import Any, Literal

import pytorch_lightning as pl
from torch import Tensor

__all__ = ["BestEpoch"]


class BestEpoch:
    """Remembers the weights of the epoch with the highest (or lowest) validation metric; the first one wins ties.

    Args:
        monitor: Name of a logged validation metric.
        mode: "max" for accuracies, "min" for losses.

    Raises:
        ValueError: If ``mode`` is neither.
    """

    def __init__(self, monitor: str, mode: Literal["max", "min"]) -> None:
        if mode not in ("max", "min"):
            raise ValueError(f"mode is {mode!r}; allowed are 'max' and 'min'")
        self.monitor, self.mode = monitor, mode
        self.score: float | None = None
        self._weights: dict[str, Any] = {}

    def update(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Takes the weights if the metric improved; one that is not a number never does.

        Raises:
            ValueError: If the metric was not logged.
        """
        metrics = trainer.callback_metrics
        if self.monitor not in metrics:
            raise ValueError(f"select='best' needs the metric {self.monitor!r}; validation logged {sorted(metrics)}")
        score = float(metrics[self.monitor])
        if math.isnan(score):
            return
        if self.score is None or (score > self.score if self.mode == "max" else score < self.score):
            self.score = score
            # A deepcopy: a layer's extra state need not be a tensor.
            self._weights = {
                name: value.detach().clone() if isinstance(value, Tensor) else deepcopy(value)
                for name, value in module.state_dict().items()
            }

    def restore_(self, module: pl.LightningModule) -> None:
        """Puts the best epoch's weights into ``module``; does nothing before the first validation."""
        if self._weights:
            module.load_state_dict(self._weights)

    def state_dict(self) -> dict[str, Any]:
        """Returns the score and the weights."""
        return {"score": self.score, "weights": self._weights}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Takes over what :meth:`state_dict` returned."""
        self.score, self._weights = state["score"], state["weights"]
