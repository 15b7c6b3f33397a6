"""Shows the progress of a run: a display on a terminal; elsewhere lines per phase and task, and in long phases more."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import pytorch_lightning as pl
from rich.console import Console
from rich.live import Live

from packnet_pl.choices import Phase
from packnet_pl.counting import counted
from packnet_pl.results import TaskResult
from packnet_pl.run.plan import RunPlan, Stage
from packnet_pl.run.progress_view import ProgressView, time_text
from packnet_pl.run.remaining_time import RemainingTime, stage_works
from packnet_pl.training.datamodule import epochs_done

__all__ = ["RunProgress"]

_LOOK = 0.5  # seconds between two looks at loss and clock: each waits for the device
_LINE = 600.0  # seconds between two lines of a log within a phase


class RunProgress:
    """The display; use it as a context manager around the run.

    Args:
        console: Where to; the main process writes, others should be given a quiet one.
        plan: Of the run.
        finished: Seconds that each finished task took, or None where that is not known.
        clock: Returns seconds.

    Attributes:
        view: What is shown.
    """

    def __init__(
        self,
        console: Console,
        plan: RunPlan,
        finished: Sequence[float | None] = (),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.clock, self.view = clock, ProgressView()
        self.interval = float("inf") if console.quiet else _LOOK
        self._console, self._stages, self._works = console, plan.stages, stage_works(plan)
        # With several tasks in one fit, a run has one fit.
        self.time = RemainingTime(self._works, [] if plan.together else finished)
        self._live: Live | None = None
        if console.is_interactive and not console.quiet:
            self._live = Live(console=console, get_renderable=lambda: self.view, refresh_per_second=4, transient=True)
        self._next_line = 0.0

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def begin(self, stage: Stage) -> None:
        """Begins the fit of a stage."""
        number = next(i for i, other in enumerate(self._stages) if other.last.name == stage.last.name)
        self.images, self._begun = self._works[number].images, self.clock()
        name = stage.name if len(stage.tasks) == 1 else f"{counted(len(stage.tasks), 'task')} together"
        self.time.begin_stage(number, self._begun)
        self.view = ProgressView(name, number + 1, len(self._stages), done=self.time.done, left=self.time.left())

    def callback(self, task: str, phase: Phase) -> pl.Callback:
        """Returns the callback that reports one fit."""
        return _PhaseProgress(self, task, phase)

    def look(self, phase: Phase, epochs: float, rate: float | None, loss: float | None) -> None:
        """Shows a moment of a phase.

        Args:
            phase: Which.
            epochs: How many are done, and which share of the present one.
            rate: Images per second.
            loss: Of training.
        """
        now = self.clock()
        self.time.advance(phase, epochs, now)
        epoch = max(1, math.ceil(epochs))
        self.view = replace(
            self.view, epoch=epoch, done=self.time.done, rate=rate, loss=loss, left=self.time.left() or self.view.left
        )
        if not self._live and now >= self._next_line:
            self.say(self.view.text())
            self._next_line = now + _LINE

    def begin_phase(self, phase: Phase, epochs: int) -> None:
        """Begins a phase."""
        self.view = replace(self.view, phase=phase, epoch=1, epochs=epochs, rate=None, loss=None, accuracy=None)
        self._next_line = self.clock() + _LINE

    def record_trials(self, count: int) -> None:
        """Records how many trials of prune ratios the present task has had."""
        self.time.record_trials(count)
        self._look_at_time()

    def end_search(self) -> None:
        """Records that the prune ratio of the present task is chosen."""
        self.time.end_search()
        self._look_at_time()

    def _look_at_time(self) -> None:
        self.view = replace(self.view, done=self.time.done, left=self.time.left() or self.view.left)

    def say(self, line: str) -> None:
        """Prints a line above the display."""
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)

    def say_phase(self, line: str) -> None:
        """Prints a line of a phase where there is no display: on a terminal each task has one."""
        if not self._live:
            self.say(line)

    def end(self, results: Sequence[TaskResult], *, resumed: bool) -> None:
        """Ends a stage, behind its evaluation: one line stays of each task.

        Args:
            results: Of its tasks.
            resumed: Whether it was begun by an earlier process.
        """
        now = self.clock()
        self.time.end_stage(now, resumed=resumed)
        self.view = replace(self.view, phase="test", done=self.time.done)
        for result in results:
            found = [f"{value:.3f} {moment}" for moment, value in result.val_accuracy.items() if value is not None]
            parts = [f"validation {', '.join(found)}"] if found else []
            parts += [] if result.owned is None else [f"owns {result.owned:.3g}"]
            self.say(f"{result.name}: {'; '.join([*parts, time_text(now - self._begun)])}")


class _PhaseProgress(pl.Callback):
    def __init__(self, progress: RunProgress, task: str, phase: Phase) -> None:
        self._progress, self._name, self._phase, self._next = progress, f"{task}, {phase}", phase, 0.0
        self._share = 1.0  # of an epoch's time that training takes
        self._batches, self._counted = 0, (0.0, 0)
        self._rate: float | None = None
        self._loss: float | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._progress.begin_phase(self._phase, trainer.max_epochs or 0)

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._share = self._progress.time.train_share
        self._counted = (self._progress.clock(), 0)

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._batches += 1
        now = self._progress.clock()
        if now < self._next:
            return
        self._next = now + self._progress.interval
        begun, batches = self._counted
        if now > begun:
            rate = (self._batches - batches) * self._progress.images / (now - begun)
            self._rate = rate if self._rate is None else 0.7 * self._rate + 0.3 * rate
        self._counted = (now, self._batches)
        # Lightning divides the loss of a batch by the batches of a step.
        loss = float(outputs["loss"]) * trainer.accumulate_grad_batches
        self._loss = loss if self._loss is None else 0.9 * self._loss + 0.1 * loss
        self._look(trainer, self._share * (batch_idx + 1) / trainer.num_training_batches)

    def on_validation_batch_end(
        self,
        trainer: pl.Trainer,
        pl_module: pl.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        now = self._progress.clock()
        if now < self._next or trainer.state.fn != "fit":
            return
        self._next = now + self._progress.interval
        share = (batch_idx + 1) / trainer.num_val_batches[0]
        self._look(trainer, self._share + (1 - self._share) * share)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._counted = (self._progress.clock(), self._batches)  # validation is no time of training
        accuracy = trainer.callback_metrics.get("val_accuracy")
        if accuracy is not None and self._progress.interval < float("inf"):
            self._progress.view = replace(self._progress.view, accuracy=float(accuracy))

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        epochs, planned = epochs_done(trainer), trainer.max_epochs or 0
        self._progress.time.end_phase(self._phase, epochs)
        accuracy = trainer.callback_metrics.get("val_accuracy")
        shown = "" if accuracy is None else f", validation accuracy {float(accuracy):.3f}"
        count = counted(planned, "epoch") if epochs == planned else f"{epochs} of {counted(planned, 'epoch')}"
        self._progress.say_phase(f"{self._name}: {count}{shown}")

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if trainer.max_epochs == 0:  # no hook of training was called
            self._progress.say_phase(f"{self._name}: 0 epochs, nothing is trained")

    def _look(self, trainer: pl.Trainer, share: float) -> None:
        self._progress.look(self._phase, epochs_done(trainer) + share, self._rate, self._loss)
