"""The loggers of a run: open from its begin to its end, over tasks, phases and resumes, in the main process alone."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import partial
from types import TracebackType
from typing import Any

from pytorch_lightning.loggers import CSVLogger, Logger

from packnet_pl.choices import Phase
from packnet_pl.errors import UsageError, one_line
from packnet_pl.run.artifacts import is_main
from packnet_pl.run.fit_logger import FitLogger
from packnet_pl.run.logged_names import finished_metrics, fit_metrics, free_share, prune_metrics, task_labels
from packnet_pl.run.logger_kinds import kind_of
from packnet_pl.run.logger_record import LoggerRecord, read_logger_record, write_logger_record
from packnet_pl.run.metrics_file import read_metrics
from packnet_pl.run.plan import LoggerPlan, RunPlan, Stage
from packnet_pl.run.run_logger import Outcome, RunLogger, RunTitle
from packnet_pl.run.signals import StoppedError
from packnet_pl.run.task_record import TaskRecord
from packnet_pl.run_directory import LOGS, metrics_path, packed_path, run_path, task_folder

__all__ = ["RunLoggers"]


class RunLoggers(AbstractContextManager["RunLoggers"]):
    """The loggers of a run, as a context: they are open inside.

    Steps count on over the fits of the run. Where those of earlier fits ended is known from their ``metrics.csv``, from
    which a logger also gets what it has not: the curves before a run was killed, or before it was given this logger.

    Args:
        plan: Of the run.
    """

    def __init__(self, plan: RunPlan) -> None:
        self._plan = plan
        self._labels = task_labels(task.name for task in plan.tasks)
        self._loggers: list[RunLogger] = []
        self._skipped: Mapping[str, int] = {}
        self._next_step = self._first_step = 0

    def __enter__(self) -> "RunLoggers":
        """Opens them.

        Raises:
            UsageError: If one cannot be opened.
        """
        plan = self._plan.loggers
        if plan is not None and plan.makers and is_main():
            self._open(plan)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Ends their runs."""
        stopped = isinstance(error, (StoppedError, KeyboardInterrupt, SystemExit))
        outcome: Outcome = "complete" if error is None else "stopped" if stopped else "failed"
        for logger in self._loggers:
            logger.close(outcome)

    @property
    def are_open(self) -> bool:
        """Whether there is any beside ``metrics.csv``, in this process."""
        return bool(self._loggers)

    def of_fit(self, stage: Stage, phase: Phase) -> list[Logger]:
        """Returns the loggers for the Trainer of a fit: first the one that writes ``metrics.csv``."""
        if self._plan.loggers is None:
            return []
        folder = task_folder(self._plan.folder, stage.last.name)
        self._begin(stage, phase)
        label, first_step = self._label(stage), self._first_step
        return [
            CSVLogger(save_dir=folder, name=LOGS, version=phase),
            *(FitLogger(logger, label, phase, first_step=first_step, passed=self._pass) for logger in self._loggers),
        ]

    def replay(self, records: Sequence[TaskRecord], resumed: Phase | None) -> None:
        """Logs, from the files of the run, all that comes before the fit that the run goes on with.

        Args:
            records: Of the finished tasks, in order.
            resumed: Phase of the next task that the run goes on with; None if that task begins.
        """
        done = 0
        for stage in self._plan.stages if self._loggers else ():
            done += len(stage.tasks)
            if done > len(records):
                if resumed == "retrain":
                    self._replay_fit(stage, "train")
                return
            self._replay_fit(stage, "train")
            result, free = records[done - 1].task, free_share(records[:done])
            if result.prune_ratio is not None and result.owned is not None and free is not None:
                self._begin(stage, "retrain")
                self.pruned(
                    stage, ratio=result.prune_ratio, owned=result.owned, free=free, val_accuracy=result.val_accuracy
                )
                self._replay_rows(stage, "retrain")
            self.finished(records[:done])

    def pruned(
        self, stage: Stage, *, ratio: float, owned: float, free: float, val_accuracy: Mapping[str, float | None]
    ) -> None:
        """Logs the pruning of a stage's task, at the first step of its retraining.

        Args:
            stage: It has one task.
            ratio: As for :func:`prune_metrics`.
            owned: As for :func:`prune_metrics`.
            free: As for :func:`prune_metrics`.
            val_accuracy: As for :func:`prune_metrics`.
        """
        metrics = prune_metrics(self._label(stage), ratio=ratio, owned=owned, free=free, val_accuracy=val_accuracy)
        self._log(metrics, self._first_step)

    def finished(self, records: Sequence[TaskRecord]) -> None:
        """Logs that a task is finished, at its last step.

        Args:
            records: Of the tasks so far, in order.
        """
        self._log(finished_metrics(records, self._labels), self._last_step)

    def files(self) -> None:
        """Leaves the packed file and the figures to the loggers."""
        folder = self._plan.folder
        for logger in self._loggers:
            logger.artifact([packed_path(folder), run_path(folder)])
            for figure in sorted((folder / "report").glob("*.png")):
                logger.figure(figure, self._last_step)

    def _open(self, plan: LoggerPlan) -> None:
        folder = self._plan.folder
        record = read_logger_record(folder)
        self._skipped = record.skipped
        runs = dict(record.runs)
        for name, make in plan.makers.items():
            kind = kind_of(make)
            arguments = kind.arguments(RunTitle(folder, plan.title, plan.group), runs.get(name))
            try:
                logger = kind(make(**_where_unset(make, arguments)), resumed=name in runs)
                logger.hyperparameters(plan.hyperparameters)
            except Exception as error:  # of libraries, servers and networks
                raise UsageError(f"logger={name} cannot begin: {type(error).__name__}: {one_line(error)}") from error
            self._loggers.append(logger)
            if logger.identity is not None:
                runs[name] = logger.identity
        # Also without one that is called something: it says that there is more than metrics.csv.
        write_logger_record(folder, LoggerRecord(runs, record.skipped))

    def _replay_fit(self, stage: Stage, phase: Phase) -> None:
        self._begin(stage, phase)
        self._replay_rows(stage, phase)

    def _replay_rows(self, stage: Stage, phase: Phase) -> None:
        label, first_step = self._label(stage), self._first_step
        for step, row in read_metrics(metrics_path(self._plan.folder, stage.last.name, phase)):
            self._log(fit_metrics(row, label, phase), first_step + step)

    def _begin(self, stage: Stage, phase: Phase) -> None:
        self._next_step += self._skipped.get(f"{stage.last.name}/{phase}", 0)
        self._first_step = self._next_step

    def _label(self, stage: Stage) -> str:
        return self._labels[stage.name] if len(stage.tasks) == 1 else self._plan.method

    def _log(self, metrics: Mapping[str, float], step: int) -> None:
        for logger in self._loggers:
            logger.log(metrics, step)
        self._pass(step)

    def _pass(self, step: int) -> None:
        self._next_step = max(self._next_step, step + 1)

    @property
    def _last_step(self) -> int:
        return max(0, self._next_step - 1)


def _where_unset(make: partial[Logger], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments for which the configuration has no value."""
    return {name: value for name, value in arguments.items() if make.keywords.get(name) is None}
