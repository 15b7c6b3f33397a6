"""Finds where a run resumes: which tasks are finished, and the newest checkpoint of the next one."""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

from packnet_pl.checkpoint_reading import read_checkpoint
from packnet_pl.choices import Phase
from packnet_pl.files import replacing
from packnet_pl.packed import (
    FeatureStatistics,
    NetworkPerTask,
    Packed,
    packed_networks,
    packed_statistics,
    read_packed,
    unpack_into,
)
from packnet_pl.run.plan import RunPlan
from packnet_pl.run.task_record import parse_history, write_task_record
from packnet_pl.run_directory import checkpoint_path, packed_path
from packnet_pl.sharded_files import check_shards
from packnet_pl.training import MultiHeadClassifier

__all__ = ["Start", "adopt_packed", "find_start"]

_PHASES: tuple[Phase, ...] = ("train", "retrain")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """The point at which a run resumes.

    Attributes:
        finished: Number of finished tasks.
        resume: Phase and checkpoint that the next task goes on from, or None if it has none.
        statistics: Finished task -> statistics of its features, of those that have any.
    """

    finished: int
    resume: tuple[Phase, Path] | None = None
    statistics: dict[str, FeatureStatistics] = field(default_factory=dict)


def find_start(plan: RunPlan, model: MultiHeadClassifier) -> Start:
    """Reads the run directory, and loads the finished tasks into ``model``.

    A file that cannot be read is named in a warning and passed over for the newest before it.

    Args:
        plan: Of the run.
        model: Without tasks.
    """
    names = [task.name for task in plan.tasks]
    finished, statistics = _finished(plan.folder, names, model)
    ends = accumulate(len(stage.tasks) for stage in plan.stages)
    for stage, end in reversed(list(zip(plan.stages, ends, strict=True))):
        for phase in reversed(_PHASES):
            path = checkpoint_path(plan.folder, stage.last.name, phase)
            if end > finished and path.exists() and _is_good(path, names[:end], phase if plan.packs else None):
                return Start(end - len(stage.tasks), (phase, path), statistics)
    return Start(finished, statistics=statistics)


def adopt_packed(folder: Path, packed: Packed) -> None:
    """Fills a run directory as if the tasks of a packed file had been trained in it, unless it has them.

    Args:
        folder: The run directory.
        packed: The file, from anywhere.

    Raises:
        ValueError: If the file has no results of its tasks.
    """
    if packed_path(folder).exists():
        return
    records = parse_history(packed.history)
    if [record.task.name for record in records] != packed.tasks:
        raise ValueError(f"{packed.path} does not tell what was measured of its tasks {packed.tasks}")
    for record in records:
        write_task_record(folder, record)
    with replacing(packed_path(folder)) as temporary:
        shutil.copyfile(packed.path, temporary)


def _finished(
    folder: Path, names: Sequence[str], model: MultiHeadClassifier
) -> tuple[int, dict[str, FeatureStatistics]]:
    path = packed_path(folder)
    if not path.exists():
        return 0, {}
    try:
        packed = read_packed(path)
        statistics = packed_statistics(packed)
    except ValueError as error:
        _log.warning("%s; it is passed over", error)
        return 0, {}
    if packed.tasks != list(names[: len(packed.tasks)]):
        raise ValueError(f"{path} holds the tasks {packed.tasks}, but the sequence is {list(names)}")
    unpack_into(model, packed)
    if isinstance(model, NetworkPerTask):
        model.networks = packed_networks(packed)
    return len(packed.tasks), statistics


def _is_good(path: Path, names: Sequence[str], phase: Phase | None) -> bool:
    try:
        checkpoint = read_checkpoint(path)
        found = list(checkpoint["tasks"])
        open_phase = checkpoint["packnet"]["phase"] if phase else None
        check_shards(path, checkpoint)
    except (RuntimeError, OSError, KeyError, TypeError, ValueError) as error:
        reason = " ".join(str(error).split())
        _log.warning("%s is damaged or something else (%s: %s); it is passed over", path, type(error).__name__, reason)
        return False
    if found != list(names) or open_phase != phase:
        _log.warning("%s is of the tasks %s in phase %s; it is passed over", path, found, open_phase)
        return False
    return True
