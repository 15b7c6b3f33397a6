"""Compares the data of a run that resumes, or is evaluated, with the data that it began with."""

import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from packnet_pl.configuration.resume_rules import begun_tasks
from packnet_pl.counting import counted
from packnet_pl.data import TaskData
from packnet_pl.data.inventory import Inventory
from packnet_pl.errors import UsageError
from packnet_pl.names import shown
from packnet_pl.run.data_record import DataRecord, differing_data, read_data_record
from packnet_pl.run.task_record import parse_history, read_task_record

__all__ = ["check_data", "data_differences"]

_ALL = ("train", "val", "test")
_ASKED = ("val", "test")  # of a finished task
_log = logging.getLogger(__name__)


def check_data(
    folder: Path, config: DictConfig, data: Mapping[str, TaskData | None], history: Sequence[Mapping[str, Any]]
) -> None:
    """Refuses data that differ from those that the begun or finished tasks had.

    Args:
        folder: The run directory.
        config: Checked, of a run that resumes.
        data: Task -> its data now.
        history: Results of the tasks, from the packed file that the run continues from.

    Raises:
        UsageError: If they have other ones, and ``changed_data`` does not accept that; or if a class was added or taken
            away, for which no head has logits.
    """
    finished, order = list(config.sequence.finished), list(config.sequence.order)
    begun = {*finished, *begun_tasks(folder, order, together=config.method.together)}
    unknown = []
    for task in [name for name in order if name in begun]:
        now, before = data[task], _known(folder, task, history)
        if now is None:
            continue
        if before is None:
            unknown.append(task)
            continue
        _check_classes(task, before.inventory.class_names, now, accept=config.changed_data == "accept")
        what = differing_data(before, now, _ASKED if task in finished else _ALL)
        if what is None:
            continue
        if config.changed_data != "accept":
            then = "was finished" if task in finished else "began"
            raise UsageError(
                f"the data of task {task!r} are not those that it {then} with: {what}. Put them back; or go on "
                "with these, which makes its figures a mix: changed_data=accept"
            )
        _log.warning("the data of task %r are others by now: %s", task, what)
    if unknown:
        _log.warning("nobody noted what data %s had: an earlier version began this run", ", ".join(map(repr, unknown)))


def data_differences(folder: Path, data: Mapping[str, TaskData | None]) -> dict[str, str]:
    """Returns task -> how its test split differs from the recorded one, where it does.

    Args:
        folder: The run directory.
        data: Task -> its data now.
    """
    found = {}
    for task, now in data.items():
        before = _known(folder, task, ()) if now is not None else None
        if now is not None and before is not None:
            _check_classes(task, before.inventory.class_names, now, accept=True)
            what = differing_data(before, now, ("test",))
            if what is not None:
                found[task] = what
    return found


def _known(folder: Path, task: str, history: Sequence[Mapping[str, Any]]) -> DataRecord | None:
    """Returns the recorded data of ``task``: from a file of its own or, with less detail, from its results."""
    noted = read_data_record(folder, task)
    if noted is not None:
        return noted
    records = parse_history(history)
    with suppress(ValueError):  # the run itself says that it is damaged
        records.append(read_task_record(folder, task))
    names = next((record.task.class_names for record in records if record.task.name == task), None)
    splits = next((record.data[task] for record in reversed(records) if task in record.data), {})
    return None if names is None else DataRecord(Inventory(tuple(names), splits), None)


def _check_classes(task: str, before: Sequence[str], now: TaskData, *, accept: bool) -> None:
    if len(before) != len(now.class_names):
        gone, new = (
            [name for name in one if name not in other]
            for one, other in ((before, now.class_names), (now.class_names, before))
        )
        raise UsageError(
            f"task {task!r} has {counted(len(now.class_names), 'class')}, and began with {len(before)} (gone: "
            f"{_few(gone)}; new: {_few(new)}): its head cannot answer others; put them back, or give these a task of "
            "their own"
        )
    other = next(((old, new) for old, new in zip(before, now.class_names, strict=True) if old != new), None)
    if other is not None and not accept:
        raise UsageError(
            f"the classes of task {task!r} have other names than when it began: '{shown(other[0])}' is "
            f"'{shown(other[1])}'; if they are the same classes in the same order, say changed_data=accept"
        )


def _few(names: Sequence[str]) -> str:
    return ", ".join(map(shown, names[:3])) + (", ..." if len(names) > 3 else "") if names else "none"
