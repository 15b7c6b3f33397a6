"""Records validation accuracy at three moments of a task: dense, pruned, retrained."""

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from packnet_pl.choices import Phase
from packnet_pl.filter_history import Moment
from packnet_pl.run.metrics import measure_together
from packnet_pl.run.sharded import place_
from packnet_pl.training import MultiHeadClassifier, PackNetCallback, RecalibrateNorms, TaskDataModule, TaskObserver
from packnet_pl.training.weight_averaging import averaging_callbacks

__all__ = ["ValidationRecord"]


class ValidationRecord:
    """Collects the figures over the fits of one task, or of several that are fitted together.

    Args:
        datamodules: Task -> what serves its validation split.

    Attributes:
        values: Task -> "dense", "pruned", "retrained" -> accuracy in [0, 1], or None as long as there is none.
    """

    def __init__(self, datamodules: Mapping[str, TaskDataModule]) -> None:
        self.datamodules = dict(datamodules)
        self.values: dict[str, dict[str, float | None]] = {
            task: {"dense": None, "pruned": None, "retrained": None} for task in datamodules
        }

    def callback(self, phase: Phase) -> pl.Callback:
        """Returns the callback for the fit of ``phase``."""
        return _Recorder(self, phase)


class _Recorder(Checkpoint, TaskObserver):
    """A ``Checkpoint``, so that Lightning runs it after early stopping, and before the state is saved."""

    def __init__(self, record: ValidationRecord, phase: Phase) -> None:
        self._record, self._phase = record, phase
        self._validated: tuple[int, float] | None = None  # after which step, and the accuracy

    def state_dict(self) -> dict[str, Any]:
        return {task: dict(values) for task, values in self._record.values.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._record.values.update(state_dict)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Nothing will be trained: no hook of training is called, and at the end the module is on the CPU again.
        if self._phase == "train" and trainer.max_epochs == 0:
            self._measure("dense", pl_module)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        is_pruned = self._phase == "retrain" and getattr(pl_module, "packnet", None) is not None
        if is_pruned and any(values["pruned"] is None for values in self._record.values.values()):
            self._measure("pruned", pl_module)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        accuracy = trainer.callback_metrics.get("val_accuracy")
        is_alike = trainer.state.fn == "fit" and _validates_alike(trainer)
        self._validated = (trainer.global_step, float(accuracy)) if is_alike and accuracy is not None else None

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Not in on_train_end: the checkpoint of the last epoch is to have it, and nothing is trained after that one.
        if trainer.current_epoch + 1 != trainer.max_epochs and not trainer.should_stop:
            return
        moment = "dense" if self._phase == "train" else "retrained"
        callback = next((c for c in trainer.callbacks if isinstance(c, PackNetCallback)), None)  # type: ignore[attr-defined]
        best = None if callback is None else callback.best
        if callback is not None:
            self._complete_pruning(trainer, callback)
        if best is not None and best.score is not None:
            with best.shown(pl_module):
                self._measure(moment, pl_module)
            return
        datamodules = self._record.datamodules
        if self._validated is None or self._validated[0] != trainer.global_step or len(datamodules) > 1:
            self._measure(moment, pl_module)
            return
        # Lightning has measured it just now, as a float32: the fraction of whole numbers is known from it.
        for task, datamodule in datamodules.items():
            images = len(datamodule.data.val)  # type: ignore[arg-type]
            self._record.values[task][moment] = round(self._validated[1] * images) / images

    def _complete_pruning(self, trainer: pl.Trainer, callback: PackNetCallback) -> None:
        """Lets a fit that is stopped early release the rest first: that is what is measured, and saved."""
        if trainer.should_stop and callback.complete_pruning_():
            self._validated = None

    def on_moment(self, trainer: pl.Trainer, pl_module: pl.LightningModule, task: str, moment: Moment) -> None:
        # The last epoch was measured with neither the averages nor the statistics that the phase ends with.
        callbacks: list[pl.Callback] = trainer.callbacks  # type: ignore[attr-defined]
        changes = averaging_callbacks(callbacks) or any(isinstance(c, RecalibrateNorms) for c in callbacks)
        if moment != "pruned" and trainer.max_epochs and changes:
            assert isinstance(pl_module, MultiHeadClassifier)
            place_(pl_module, trainer.strategy.root_device)
            self._measure(moment, pl_module)
            place_(pl_module, "cpu")

    def _measure(self, moment: str, pl_module: pl.LightningModule) -> None:
        assert isinstance(pl_module, MultiHeadClassifier)
        for task, datamodule in self._record.datamodules.items():
            num_classes = pl_module.heads.infos[task].num_classes
            with pl_module.predicting(task) as predict:
                scores = measure_together(predict, datamodule, "val", num_classes, pl_module.device)
            self._record.values[task][moment] = scores.top1


def _validates_alike(trainer: pl.Trainer) -> bool:
    """Returns whether a fit's validation measures what is recorded: all images, in float32, with no averages."""
    is_whole = isinstance(trainer.limit_val_batches, float) and trainer.limit_val_batches == 1
    is_alone = trainer.world_size == 1 and not averaging_callbacks(trainer.callbacks)  # type: ignore[attr-defined]
    return is_whole and is_alone and trainer.precision == "32-true" and not trainer.sanity_checking
