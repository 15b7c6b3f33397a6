"""Chooses the weights that a fit ends with: those of the last epoch, or of the best by a validation metric."""

import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from os import PathLike
from typing import Any, Literal

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_warn
from torch import Tensor

from packnet_pl.choices import check_choice
from packnet_pl.core.shards import is_shard, reshard_
from packnet_pl.training.protocols import find_packnet, packnet_of
from packnet_pl.training.sharding import is_sharded
from packnet_pl.training.weight_averaging import averaging_callbacks

__all__ = ["BestEpoch", "best_epoch"]

_KEY = "packnet_best"
"""Of sharded weights of the best epoch among the tensors of a module."""

_LOW = {"cer", "eer", "mae", "mse", "nll", "perplexity", "ppl", "rmse", "wer"}
"""Parts of the names of metrics that are better the lower they are."""


def best_epoch(select: Literal["last", "best"], monitor: str, mode: Literal["max", "min"] | None) -> "BestEpoch | None":
    """Returns a :class:`BestEpoch`, or None for the last epoch.

    Args:
        select: "last" or "best".
        monitor: As for :class:`BestEpoch`.
        mode: As for :class:`BestEpoch`.

    Raises:
        ValueError: If an argument is not allowed, or says nothing beside "last".
    """
    if check_choice("select", select, ("last", "best")) == "best":
        return BestEpoch(monitor, mode)
    if mode is not None or monitor != "val_accuracy":
        raise ValueError(f"monitor={monitor!r} and mode={mode!r} choose the best epoch: give select='best' with them")
    return None


class BestEpoch:
    """Stores the weights of the epoch with the highest (or lowest) validation metric; the first one wins ties.

    Args:
        monitor: Name of a logged validation metric.
        mode: "max" for accuracies, "min" for losses; None is "max", but for names that say they are a loss or an error.

    Raises:
        ValueError: If ``mode`` is none of these, or left open for a loss.
    """

    def __init__(self, monitor: str, mode: Literal["max", "min"] | None = None) -> None:
        if not isinstance(monitor, str) or not monitor:
            raise ValueError(f"monitor is {monitor!r}; it takes the name of a metric that validation logs")
        if mode not in ("max", "min", None):
            raise ValueError(f"mode is {mode!r}; allowed are 'max' and 'min'")
        if mode is None and (any(w in monitor.lower() for w in ("loss", "error")) or _LOW & set(_name_parts(monitor))):
            raise ValueError(
                f"monitor={monitor!r} without a mode would keep the epoch in which it is highest: give mode"
            )
        self.monitor, self.mode = monitor, mode or "max"
        self.score: float | None = None
        self._weights: dict[str, Any] = {}
        self._scores: dict[str, Tensor] = {}  # of a mask that is being learned

    def check_trainer(self, trainer: pl.Trainer) -> None:
        """Checks that the fit that begins validates, and averages no weights.

        Raises:
            ValueError: Otherwise: there would be no best epoch.
        """
        if averaging_callbacks(trainer.callbacks):  # type: ignore[attr-defined]
            raise ValueError(
                "select='best' with an averaging callback: the weights at the end are either the average or those of "
                "the best epoch; use select='last', or leave the averaging out"
            )
        every, epochs = trainer.check_val_every_n_epoch, trainer.max_epochs
        if not trainer.enable_validation:
            raise ValueError(
                f"select='best' needs validation that logs {self.monitor!r}, and this fit has none: give a loader "
                "for it (fit_task(..., val_dataloaders=...)) and the module a validation_step, or use select='last'"
            )
        if every is not None and epochs is not None and 0 < epochs < every:
            raise ValueError(
                f"select='best' needs validation, and this Trainer validates every {every} epochs and has {epochs}: "
                "lower check_val_every_n_epoch"
            )

    def update(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Stores the weights after a validation, if the metric improved; NaN never does.

        The few batches that Lightning validates before it trains do not count, and many modules log no metric then.

        Raises:
            ValueError: If the metric was not logged.
        """
        if trainer.sanity_checking:
            if trainer.callback_metrics:
                self._check_logged(trainer)
            return
        self._check_logged(trainer)
        score = float(trainer.callback_metrics[self.monitor])
        if is_sharded(module):
            score = trainer.strategy.broadcast(score)  # rows of one epoch in all processes
        if math.isnan(score):
            return
        if self.score is None or (score > self.score if self.mode == "max" else score < self.score):
            self.score = score
            reshard_(module)
            self._weights = {name: _copied(value) for name, value in module.state_dict().items()}
            self._scores = _mask_scores(module)

    def _check_logged(self, trainer: pl.Trainer) -> None:
        metrics = trainer.callback_metrics
        if self.monitor not in metrics:
            raise ValueError(f"select='best' needs the metric {self.monitor!r}; validation logged {sorted(metrics)}")

    def restore_(self, module: pl.LightningModule) -> None:
        """Loads the best epoch's weights into ``module``; if there is none, warns and leaves the last epoch's."""
        if self._weights:
            self._load(module, self._weights, self._scores)
        if self.score is None:
            rank_zero_warn(
                f"select='best' found no epoch in which {self.monitor!r} is a number (pruned gradually, only those "
                "count in which all is): the last epoch is kept"
            )

    @contextmanager
    def shown(self, module: pl.LightningModule) -> Iterator[None]:
        """Shows the best epoch's weights in ``module`` for a while; there must be a best epoch."""
        reshard_(module)
        now = {name: _copied(value) for name, value in module.state_dict().items()}
        scores = _mask_scores(module)
        self._load(module, self._weights, self._scores)
        try:
            yield
        finally:
            self._load(module, now, scores)

    def state_dict(self) -> dict[str, Any]:
        """Returns the score and the weights, and those of a mask that is being learned; without what is sharded."""
        if self._is_sharded:
            return {"score": self.score, "weights": {}}
        scores = {"mask_scores": self._scores} if self._scores else {}
        return {"score": self.score, "weights": self._weights, **scores}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Loads what :meth:`state_dict` returned."""
        self.score = state["score"]
        if state["weights"]:
            self._weights, self._scores = state["weights"], state.get("mask_scores", {})

    def save_shards(self, checkpoint: dict[str, Any]) -> None:
        """Adds what is sharded to the weights of the module in ``checkpoint``: each process writes its rows."""
        if self._is_sharded:
            checkpoint["state_dict"][_KEY] = {"weights": self._weights, "mask_scores": self._scores}

    def load_shards(self, path: str | PathLike[str], module: pl.LightningModule) -> None:
        """Loads what :meth:`save_shards` added, if it did; every process must call it alike.

        Args:
            path: The folder of the checkpoint.
            module: Sharded; its PackNet has been loaded.
        """
        from packnet_pl.core.plain_shards import load_shards_, read_index

        key = f"state_dict.{_KEY}"
        if any(name.startswith(f"{key}.") for name in read_index(path).state_dict_metadata):
            reshard_(module)
            self._weights = {name: _copied(value) for name, value in module.state_dict().items()}
            self._scores = _mask_scores(module)
            load_shards_({key: {"weights": self._weights, "mask_scores": self._scores}}, path)

    @property
    def _is_sharded(self) -> bool:
        return any(is_shard(value) for value in self._weights.values())

    def _load(self, module: pl.LightningModule, weights: dict[str, Any], scores: dict[str, Tensor]) -> None:
        reshard_(module)
        module.load_state_dict(weights)
        if scores:
            packnet_of(module).mask.load_values_(scores)


def _mask_scores(module: pl.LightningModule) -> dict[str, Tensor]:
    packnet = find_packnet(module)
    return {name: _copied(score) for name, score in packnet.mask_scores.items()} if packnet is not None else {}


def _copied(value: Any) -> Any:
    # A deepcopy: a layer's extra state need not be a tensor.
    return value.detach().clone() if isinstance(value, Tensor) else deepcopy(value)


def _name_parts(name: str) -> list[str]:
    return re.findall("[a-z]+", name.lower())
