"""Seeds every training step, so that random numbers do not depend on interruptions."""

from typing import TYPE_CHECKING, Any

import pytorch_lightning as pl
from pytorch_lightning import seed_everything

from packnet_pl.data.seeding import derive_seed
from packnet_pl.training.datamodule import epochs_done
from packnet_pl.training.families import base_of_both

__all__ = ["Reseed"]

if TYPE_CHECKING:
    from pytorch_lightning import Callback as _Callback
else:
    _Callback = base_of_both(pl.Callback)


class Reseed(_Callback):
    """Seeds torch, numpy and random before each batch from (seed, task, phase, epoch, batch, rank).

    So a checkpoint needs no state of random generators, wherever in an epoch it was written.

    Args:
        seed: Of the run.
        task: Name of the task.
        phase: Phase of the task.
    """

    def __init__(self, *, seed: int, task: str, phase: str) -> None:
        self._key = (seed, task, phase)

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seeds the generators for the batch."""
        seed_everything(derive_seed(*self._key, epochs_done(trainer), batch_idx, trainer.global_rank), verbose=False)
