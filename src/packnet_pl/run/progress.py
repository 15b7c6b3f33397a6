"""Shows the progress of a whole run: one bar over all epochs on a terminal, one line per phase everywhere."""

from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from packnet_pl.counting import counted

__all__ = ["RunProgress"]


class RunProgress(Progress):
    """The bar; use it as a context manager around the run.

    Args:
        console: Where to; the main process writes, others should be given a quiet one.
        num_epochs: Of all tasks and phases together.
    """

    def __init__(self, console: Console, num_epochs: int) -> None:
        super().__init__(
            TextColumn("{task.description}"),
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TextColumn("epochs, left"),
            TimeRemainingColumn(compact=True),
            console=console,
            transient=True,
            # Without a terminal the lines are enough.
            disable=not console.is_terminal,
        )
        self._bar = self.add_task("starting", total=num_epochs)

    def callback(self, task: str, phase: str) -> pl.Callback:
        """Returns the callback that reports one fit."""
        return _PhaseProgress(self, self._bar, task, phase)


class _PhaseProgress(pl.Callback):
    def __init__(self, progress: RunProgress, bar: TaskID, task: str, phase: str) -> None:
        self._progress, self._bar, self._name = progress, bar, f"{task}, {phase}"
        self._done = 0.0

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._progress.update(self._bar, description=self._name)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._done = self._progress.tasks[0].completed

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._progress.update(self._bar, completed=self._done + (batch_idx + 1) / trainer.num_training_batches)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        metrics = trainer.callback_metrics
        shown = {"train_loss": "loss", "val_accuracy": "val"}
        parts = [f"{short} {float(metrics[name]):.3f}" for name, short in shown.items() if name in metrics]
        self._done += 1
        self._progress.update(self._bar, completed=self._done, description=f"{self._name}: {', '.join(parts)}")

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        accuracy = trainer.callback_metrics.get("val_accuracy")
        shown = "" if accuracy is None else f", validation accuracy {float(accuracy):.3f}"
        self._progress.console.print(
            f"{self._name}: {counted(trainer.max_epochs or 0, 'epoch')}{shown}", highlight=False
        )

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.max_epochs == 0:  # no hook of training was called
            self._progress.console.print(f"{self._name}: 0 epochs, nothing is trained", highlight=False)
