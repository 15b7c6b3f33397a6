"""Records each finished task in a file of its own, from which ``results.json`` is put together."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from packnet_pl.container import open_packed
from packnet_pl.data.inventory import SplitInventory
from packnet_pl.names import mended_class_names
from packnet_pl.records import read_json, write_json
from packnet_pl.results import TaskResult
from packnet_pl.run.metrics import Scores
from packnet_pl.run_directory import journal_path, packed_path

__all__ = [
    "DamagedRunError",
    "TaskRecord",
    "parse_history",
    "read_task_record",
    "read_task_records",
    "write_task_record",
]

_log = logging.getLogger(__name__)


class DamagedRunError(ValueError):
    """A run directory lacks what the run cannot do without."""


class TaskRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The record of one finished task.

    Attributes:
        task: Its figures.
        scores: Scores of all tasks so far, right after it was finished; none if others were learned with it, and come
            after it.
        outputs_unchanged: Likewise, whether their probes' logits were the same bits; None without a probe.
        val_now: Likewise, accuracy on their validation splits, in [0, 1]; None where the data are not here.
        data: Likewise, what their splits held: task -> split -> inventory; empty in files of earlier versions.
    """

    task: TaskResult
    scores: dict[str, Scores]
    outputs_unchanged: list[bool | None]
    val_now: dict[str, float | None]
    data: dict[str, dict[str, SplitInventory]] = {}

    def dump(self) -> dict[str, Any]:
        """Returns it for the packed file, without the seconds: two equal runs write equal files."""
        untimed = msgspec.structs.replace(self, task=msgspec.structs.replace(self.task, seconds=None))
        dumped: dict[str, Any] = msgspec.to_builtins(untimed)
        return dumped


def parse_history(history: Sequence[Mapping[str, Any]]) -> list[TaskRecord]:
    """Reads what :meth:`TaskRecord.dump` returned for each finished task.

    Raises:
        ValueError: If it is something else.
    """
    return [_mended(record) for record in msgspec.convert(history, list[TaskRecord])]


def write_task_record(folder: Path, record: TaskRecord) -> None:
    """Replaces the record of a task in the run directory ``folder`` as a whole."""
    write_json(journal_path(folder, record.task.name), record)


def read_task_record(folder: Path, task: str) -> TaskRecord:
    """Reads the record of ``task`` in the run directory ``folder``.

    Raises:
        ValueError: If it is damaged, or not there.
    """
    path = journal_path(folder, task)
    try:
        return _mended(read_json(path, TaskRecord))
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from error


def _mended(record: TaskRecord) -> TaskRecord:
    """Returns ``record`` with two classes of one name, which earlier versions let pass, as the packed file has them."""
    names = list(mended_class_names(record.task.class_names))
    return msgspec.structs.replace(record, task=msgspec.structs.replace(record.task, class_names=names))


def read_task_records(folder: Path, names: Sequence[str]) -> list[TaskRecord]:
    """Returns the records of the finished tasks ``names`` of a run, in order.

    A file that cannot be read is named in a warning; the packed file has the same, but for the seconds it took.

    Args:
        folder: The run directory.
        names: Of the finished tasks.

    Raises:
        DamagedRunError: If neither has it.
    """
    records = []
    for name in names:
        try:
            records.append(read_task_record(folder, name))
        except ValueError as error:
            records.append(_from_packed(folder, name, error))
            _log.warning("%s; what the packed file tells of it is used", error)
    return records


def _from_packed(folder: Path, name: str, reason: ValueError) -> TaskRecord:
    try:
        history = parse_history(open_packed(packed_path(folder)).history)
    except (ValueError, OSError):
        history = []
    for record in history:
        if record.task.name == name:
            return record
    raise DamagedRunError(
        f"{reason}; {packed_path(folder)} does not tell how well {name!r} does either: put one of them back from a "
        "copy, or start a new run in another hydra.run.dir"
    ) from reason
