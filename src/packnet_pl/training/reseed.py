"""The same random numbers in each epoch, however the run got there."""

from typing import Any

import pytorch_lightning as pl
from pytorch_lightning import seed_everything

from packnet_pl.data.datamodule import epochs_done
from packnet_pl.data.seeding import derive_seed

__all__ = ["Reseed"]


class Reseed(pl.Callback):
    """Seeds torch, numpy and random at the first step of every epoch from (seed, task, phase, epoch, rank).

    Not earlier: a loader draws a number when an epoch begins, before ``on_train_epoch_start`` in the first epoch of a
    fit and after it in all others, so a resumed run would draw other numbers.

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
        """Seeds."""
        if batch_idx == 0:
            seed_everything(derive_seed(*self._key, epochs_done(trainer), trainer.global_rank), verbose=False)
