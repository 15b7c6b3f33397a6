"""Gradual pruning in a Lightning fit of phase "retrain": at the begin of epochs, until the whole share is released."""

import logging
from collections.abc import Callable, Iterable

import pytorch_lightning as pl
from torch import Tensor

from packnet_pl.core import PackNet
from packnet_pl.core.gradual import last_cut, share_at
from packnet_pl.core.pruning import PruneRule
from packnet_pl.training.datamodule import epochs_done

__all__ = ["GradualPruning"]

_log = logging.getLogger(__name__)


class GradualPruning:
    """Prunes the open task on. What is released follows from the epoch alone, so a resumed fit prunes alike.

    Args:
        trainer: Of the fit, with a number of epochs.
        packnet: With a task in phase "retrain".
        ratio: The whole share, in [0, 1).
        rule: How it is pruned.
        agree: As for :meth:`PackNet.prune`.

    Raises:
        ValueError: If it is not known how many epochs there will be.
    """

    def __init__(
        self,
        trainer: pl.Trainer,
        packnet: PackNet,
        ratio: float,
        rule: PruneRule,
        agree: Callable[[Iterable[Tensor]], None] | None,
    ) -> None:
        if trainer.max_epochs is None or trainer.max_epochs < 0:
            raise ValueError(
                f"prune schedule 'gradual' needs to know how many epochs there are, and this Trainer has "
                f"max_epochs={trainer.max_epochs}: give it a number, or prune with schedule 'oneshot'"
            )
        self._trainer, self._packnet, self._agree = trainer, packnet, agree
        self._ratio, self._rule = ratio, rule

    @property
    def is_complete(self) -> bool:
        """Whether the whole share is released in this epoch."""
        return epochs_done(self._trainer) >= self._last

    def begin_epoch_(self) -> None:
        """Releases what is due in this epoch."""
        epoch = epochs_done(self._trainer)
        if epoch <= self._last:
            self._prune_to_(share_at(self._ratio, epoch, self._epochs))

    def complete_(self) -> bool:
        """Releases what is left of the whole share, as where training was stopped early.

        Returns:
            Whether anything was left.
        """
        before = self._free()
        self._prune_to_(self._ratio)
        is_late = self._free() != before
        if is_late:
            _log.info(
                "%s: training ended before the last step of gradual pruning, so the rest of the share %g is released "
                "now, with nothing retrained after it",
                self._packnet.open_task,
                self._ratio,
            )
        return is_late

    @property
    def _epochs(self) -> int:
        return self._trainer.max_epochs or 0

    @property
    def _last(self) -> int:
        return last_cut(self._epochs)

    def _prune_to_(self, share: float) -> None:
        self._packnet.prune(share, rule=self._rule, agree=self._agree)

    def _free(self) -> int:
        return self._packnet.summary().total.free
