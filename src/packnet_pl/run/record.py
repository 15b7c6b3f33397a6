"""Validation accuracy at the three moments of a task: dense, pruned, retrained."""

from typing import Any

import pytorch_lightning as pl

from packnet_pl.core import Phase
from packnet_pl.run.scores import measure_together
from packnet_pl.training import TaskClassifier

__all__ = ["ValidationRecord"]


class ValidationRecord:
    """Collects the figures over both fits of a task.

    Args:
        task: Name of the task.

    Attributes:
        values: "dense", "pruned", "retrained" -> accuracy in [0, 1], or None as long as there is none.
    """

    def __init__(self, task: str) -> None:
        self.task = task
        self.values: dict[str, float | None] = {"dense": None, "pruned": None, "retrained": None}

    def callback(self, phase: Phase) -> pl.Callback:
        """Returns the callback for the fit of ``phase``."""
        return _Recorder(self, phase)


class _Recorder(pl.Callback):
    def __init__(self, record: ValidationRecord, phase: Phase) -> None:
        self._record, self._phase = record, phase

    def state_dict(self) -> dict[str, Any]:
        return dict(self._record.values)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._record.values.update(state_dict)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Nothing will be trained: no hook of training is called, and at the end the module is on the CPU again.
        if self._phase == "train" and trainer.max_epochs == 0:
            self._record.values["dense"] = self._measure(trainer, pl_module)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if self._phase == "retrain" and self._record.values["pruned"] is None:
            self._record.values["pruned"] = self._measure(trainer, pl_module)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Not in on_train_end: the checkpoint of the last epoch is to have it, and nothing is trained after that one.
        if trainer.current_epoch + 1 == trainer.max_epochs:
            self._record.values["dense" if self._phase == "train" else "retrained"] = self._measure(trainer, pl_module)

    def _measure(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> float:
        assert isinstance(pl_module, TaskClassifier)
        datamodule = trainer.datamodule  # type: ignore[attr-defined]
        with pl_module.answering(self._record.task) as logits:
            num_classes = pl_module.heads.infos[self._record.task].num_classes
            return measure_together(logits, datamodule, "val", num_classes, pl_module.device).top1
