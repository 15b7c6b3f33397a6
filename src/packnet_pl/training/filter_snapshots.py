"""Records, while tasks are trained, what a few filters look like, and to which task their weights belong."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pytorch_lightning as pl

from packnet_pl.core import PackNet
from packnet_pl.core.watched_filters import choose_filters, take_snapshot
from packnet_pl.filter_history import FilterHistory, Moment, WatchedFilter
from packnet_pl.training.protocols import find_packnet, packnet_of
from packnet_pl.training.task_observer import TaskObserver

__all__ = ["FilterSnapshots"]


class FilterSnapshots(TaskObserver):
    """Takes snapshots of a few filters when a task is dense, pruned and retrained.

    One object serves all fits of a sequence of tasks: give it to each Trainer, beside its :class:`PackNetCallback`.
    Checkpoints hold what it has so far, so that a resumed fit ends with the same history. Without Lightning, call
    :meth:`take`::

        snapshots = FilterSnapshots()
        fit_task(..., make_trainer=lambda phase, callback: pl.Trainer(callbacks=[callback, snapshots]))
        snapshots.history.snapshots[0].values

    Args:
        filters: Which ones; None takes a few of the first, the middle and the last layer that has kernels of 3 x 3 to
            11 x 11, or, where none has, blocks of weight matrices.

    Attributes:
        history: All snapshots so far.
    """

    def __init__(self, filters: Sequence[WatchedFilter] | None = None) -> None:
        self.history = FilterHistory(tuple(filters or ()))

    def take(self, packnet: PackNet, task: str, moment: Moment) -> None:
        """Takes a snapshot; it replaces an earlier one of the same moment of the task.

        Args:
            packnet: Of the network. At moment "dense" and "retrained" the task is not pruned or finished yet.
            task: The task that is trained.
            moment: "dense", "pruned" or "retrained".

        Raises:
            ValueError: If one of the filters is not in the network.
        """
        if not self.history.filters:
            self.history = FilterHistory(tuple(choose_filters(packnet)))
        self.history = self.history.with_(take_snapshot(packnet, self.history.filters, task, moment))

    def on_moment(self, trainer: pl.Trainer, pl_module: pl.LightningModule, task: str, moment: Moment) -> None:
        """Takes a snapshot, where weights have owners."""
        if find_packnet(pl_module) is not None:
            self.take(packnet_of(pl_module), task, moment)

    def state_dict(self) -> dict[str, Any]:
        """Returns the history so far."""
        return {"history": msgspec.to_builtins(self.history)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Loads what :meth:`state_dict` returned."""
        self.history = msgspec.convert(state_dict["history"], FilterHistory)
