"""Saves a fit's checkpoint: after each epoch, every so many steps, and when the run is asked to stop."""

from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from packnet_pl.run.signals import StoppedError, StopRequest

__all__ = ["SaveState"]


_STOPPED = "packnet_pl_stopped"


class SaveState(Checkpoint):
    """Saves one checkpoint, again and again: at the end of each epoch, every so many steps, and when asked to stop.

    It is a ``Checkpoint`` so that Lightning runs it after all other callbacks, whose state it saves.

    Args:
        path: Of the file; None saves nothing.
        every_n_steps: Steps of the optimizer between two writings within an epoch; None for epochs only.
        stop: Asked after each batch; all processes stop if one was asked to.
    """

    def __init__(self, path: Path | None, *, every_n_steps: int | None, stop: StopRequest) -> None:
        self._path, self._every_n_steps, self._stop = path, every_n_steps, stop
        self._saved_step, self._stopped = 0, False

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Keeps the signals from Lightning."""
        self._stop.keep_from(trainer)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Adds whether a callback has ended the fit, such as early stopping: Lightning forgets it."""
        checkpoint[_STOPPED] = trainer.should_stop

    def on_load_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Loads what :meth:`on_save_checkpoint` added; checkpoints of earlier versions have nothing."""
        self._stopped = checkpoint.get(_STOPPED, False)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Records the step at which the fit begins; trains no further epoch if the fit that resumes had been ended."""
        # Not earlier: Lightning would pass over the fit, and over the hook in which averages replace the weights.
        trainer.should_stop = trainer.should_stop or self._stopped
        self._saved_step = trainer.global_step

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves where it is due; the last batch of an epoch is left to the end of the epoch."""
        if batch_idx + 1 == trainer.num_training_batches:
            return
        if (batch_idx + 1) % trainer.accumulate_grad_batches:
            return  # a checkpoint does not hold the gradients gathered so far
        signum = self._stop.asked()
        if signum is not None:
            self._save(trainer)
            raise StoppedError(signum)
        step, every = trainer.global_step, self._every_n_steps
        if every and step % every == 0 and step != self._saved_step:
            self._save(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Saves."""
        self._save(trainer)
        self._stop.raise_if_asked()

    def _save(self, trainer: pl.Trainer) -> None:
        self._saved_step = trainer.global_step
        if self._path is not None:
            trainer.save_checkpoint(self._path)
