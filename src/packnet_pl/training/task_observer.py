"""Callbacks that are told the moments of a task: before its weights are final, then dense, pruned, retrained."""

from typing import TYPE_CHECKING

import pytorch_lightning as pl

from packnet_pl.filter_history import Moment
from packnet_pl.training.families import base_of_both

__all__ = ["TaskObserver", "let_observers_change_", "tell_observers"]

if TYPE_CHECKING:
    from pytorch_lightning import Callback as _Callback
else:
    _Callback = base_of_both(pl.Callback)


class TaskObserver(_Callback):
    """A callback with two more hooks; :class:`PackNetCallback` calls them, in whatever order the Trainer has both."""

    def before_moment_(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Called at the end of a fit, on every process, before the task's weights are final.

        It may change what the open task may change; whatever else it changes is restored.

        Args:
            trainer: Of the fit.
            pl_module: The whole module, on the CPU, with the averages or the best epoch where the fit chooses those.
        """

    def on_moment(self, trainer: pl.Trainer, pl_module: pl.LightningModule, task: str, moment: Moment) -> None:
        """Called at the end of a fit, on every process, when the task's weights are final.

        It must change neither weights nor the modes of modules.

        Args:
            trainer: Of the fit.
            pl_module: The whole module; its PackNet says who owns what.
            task: The task that is fitted.
            moment: "dense" before it is pruned (or finished, where nothing is pruned), "pruned" right after that,
                "retrained" before it is finished.
        """


def tell_observers(trainer: pl.Trainer, module: pl.LightningModule, task: str, moment: Moment) -> None:
    """Calls the hook of every :class:`TaskObserver` of ``trainer``, in their order."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, TaskObserver):
            callback.on_moment(trainer, module, task, moment)


def let_observers_change_(trainer: pl.Trainer, module: pl.LightningModule) -> None:
    """Calls the hook of every :class:`TaskObserver` of ``trainer`` that comes before the weights are final."""
    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, TaskObserver):
            callback.before_moment_(trainer, module)
