"""Records, in ``loggers.json`` of a run directory, the runs that loggers opened, and steps that were taken back."""

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import msgspec

from packnet_pl.choices import Phase
from packnet_pl.errors import UsageError
from packnet_pl.records import read_json, write_json
from packnet_pl.run.metrics_file import read_metrics
from packnet_pl.run_directory import loggers_path, metrics_path

__all__ = ["LoggerRecord", "read_logger_record", "skip_steps", "write_logger_record"]


class LoggerRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The record.

    Attributes:
        runs: Name of a logger -> what it calls its run, so that a resumed run goes on with it.
        skipped: "TASK/PHASE" -> steps that loggers have of it from settings that were replaced. Its curve goes on
            behind them, as not every logger can take back what it has.
    """

    runs: dict[str, str] = {}
    skipped: dict[str, int] = {}


def read_logger_record(folder: Path) -> LoggerRecord:
    """Returns the record in the run directory ``folder``; an empty one if there is none.

    Raises:
        UsageError: If it is damaged.
    """
    path = loggers_path(folder)
    if not path.exists():
        return LoggerRecord()
    try:
        return read_json(path, LoggerRecord)
    except ValueError as error:
        raise UsageError(f"{path} is damaged: {error}; without it, loggers begin new runs") from error


def write_logger_record(folder: Path, record: LoggerRecord) -> None:
    """Replaces the record in the run directory ``folder`` as a whole."""
    write_json(loggers_path(folder), record)


def skip_steps(folder: Path, tasks: Sequence[str], phases: Sequence[str]) -> None:
    """Leaves the steps that were logged of phases which begin anew with other settings to what was trained first.

    Args:
        folder: The run directory.
        tasks: Whose.
        phases: Which.
    """
    if not loggers_path(folder).exists():
        return  # nothing but metrics.csv has had them, and that is written anew
    record = read_logger_record(folder)
    skipped = dict(record.skipped)
    for task, phase in ((task, phase) for task in tasks for phase in phases):
        rows = read_metrics(metrics_path(folder, task, cast(Phase, phase)))
        if rows:
            key = f"{task}/{phase}"
            skipped[key] = skipped.get(key, 0) + 1 + max(step for step, _ in rows)
    write_logger_record(folder, msgspec.structs.replace(record, skipped=skipped))
