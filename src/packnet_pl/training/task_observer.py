"""Callbacks that are told the moments of a task, when its weights are final: dense, pruned, retrained."""

from typing import TYPE_CHECKING

import pytorch_lightning as pl

from packnet_pl.filter_history import Moment
from packnet_pl.training.families import base_of_both

__all__ = ["TaskObserver", "tell_observers"]

if TYPE_CHECKING:
    from pytorch_lightning import Callback as _Callback
else:
    _Callback = base_of_both(pl.Callback)


class TaskObserver(_Callback):
    """A callback with one more hook; :class:`PackNetCallback` calls it, in whatever order the Trainer has the two."""

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
