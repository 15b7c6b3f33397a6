"""The same random numbers in each epoch, however the run got there."""

import pytorch_lightning as pl
from pytorch_lightning import seed_everything

from packnet_pl.data.datamodule import epochs_done
from packnet_pl.data.seeding import derive_seed

__all__ = ["Reseed"]


class Reseed(pl.Callback):
    """Seeds torch, numpy and random at the start of every epoch from (seed, task, phase, epoch, rank).

    Args:
        seed: Of the run.
        task: Name of the task.
        phase: Phase of the task.
    """

    def __init__(self, *, seed: int, task: str, phase: str) -> None:
        self._key = (seed, task, phase)

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Seeds."""
        seed_everything(derive_seed(*self._key, epochs_done(trainer), trainer.global_rank), verbose=False)
