"""Logs the pruning of a task, with the accuracy before and after, when its retraining begins."""

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from packnet_pl.run.loggers import RunLoggers
from packnet_pl.run.plan import Stage
from packnet_pl.run.validation_record import ValidationRecord
from packnet_pl.training import MultiHeadClassifier
from packnet_pl.training.sharding import is_sharded

__all__ = ["LogPruning"]


class LogPruning(Checkpoint):
    """Logs the pruning once the pruned network is measured.

    It is a ``Checkpoint`` as what measures is, and stands behind that in a Trainer.

    Args:
        loggers: Of the run.
        stage: That is fitted.
        record: Has the accuracies.
    """

    def __init__(self, loggers: RunLoggers, stage: Stage, record: ValidationRecord) -> None:
        self._loggers, self._stage, self._record = loggers, stage, record

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Logs it where nothing is retrained, and no hook of training is called."""
        if trainer.max_epochs == 0:
            self.on_train_start(trainer, pl_module)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Logs it."""
        assert isinstance(pl_module, MultiHeadClassifier)
        packnet = pl_module.packnet
        ratio = self._stage.last.prune_ratio
        if packnet is None or packnet.phase != "retrain" or ratio is None:
            return
        if not self._loggers.are_open and not is_sharded(pl_module):
            return
        total, task = packnet.summary().total, self._stage.last.name
        owned, free = total.fraction(task), total.free_fraction
        if self._loggers.are_open:  # others had to count
            values = self._record.values[task]
            self._loggers.pruned(self._stage, ratio=ratio, owned=owned, free=free, val_accuracy=values)
