"""The history of a few filters: what their weights were, and whose, at three moments of each task."""

from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args

import msgspec

from packnet_pl.records import read_json, write_json

__all__ = ["MOMENTS", "FilterHistory", "FilterSnapshot", "Moment", "WatchedFilter", "read_filters", "write_filters"]

Moment = Literal["dense", "pruned", "retrained"]
"""Of a task: trained on all that was free; pruned just now; retrained, as it is frozen."""

MOMENTS: tuple[Moment, ...] = get_args(Moment)

Grid = tuple[tuple[float, ...], ...]
OwnerGrid = tuple[tuple[int, ...], ...]


class WatchedFilter(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which weights of a layer are looked at, as a grid of rows and columns.

    Attributes:
        layer: Name of the weight in the shared part, such as "features.0.weight".
        index: Of a convolution: output and input channel of the kernel. Of another weight: its first row and column,
            where what is behind its first dimension counts as one.
        size: Rows and columns.
    """

    layer: str
    index: tuple[int, ...]
    size: tuple[int, int]


class FilterSnapshot(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The watched filters at one moment of one task.

    Attributes:
        task: Which one was trained.
        moment: "dense", "pruned" or "retrained".
        values: Per filter, rows of weights, exactly.
        owners: Per filter, rows of owners: 0 is free, k the k-th task of ``tasks``.
        tasks: Names of the tasks so far, in order; the last one is ``task``.
    """

    task: str
    moment: Moment
    values: tuple[Grid, ...]
    owners: tuple[OwnerGrid, ...]
    tasks: tuple[str, ...]


class FilterHistory(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Snapshots of the same filters over the moments of one task or several.

    Attributes:
        filters: What is watched.
        snapshots: In the order of training; no moment of a task twice.
    """

    filters: tuple[WatchedFilter, ...] = ()
    snapshots: tuple[FilterSnapshot, ...] = ()

    def __post_init__(self) -> None:
        """Checks that each snapshot has every filter.

        Raises:
            ValueError: If one has not.
        """
        sizes = [watched.size for watched in self.filters]
        for snapshot in self.snapshots:
            for grids in (snapshot.values, snapshot.owners):
                if [_size(grid) for grid in grids] != sizes or not all(_is_whole(grid) for grid in grids):
                    raise ValueError(f"task {snapshot.task!r}, {snapshot.moment}: not the grids of {sizes}")
            owners = [owner for grid in snapshot.owners for row in grid for owner in row]
            if any(not 0 <= owner <= len(snapshot.tasks) for owner in owners):
                raise ValueError(f"task {snapshot.task!r}, {snapshot.moment}: an owner is none of {snapshot.tasks}")

    def with_(self, snapshot: FilterSnapshot) -> "FilterHistory":
        """Returns the history with one more snapshot, in the place of an earlier one of the same task and moment."""
        others = [s for s in self.snapshots if (s.task, s.moment) != (snapshot.task, snapshot.moment)]
        return msgspec.structs.replace(self, snapshots=(*others, snapshot))

    def of(self, task: str) -> "FilterHistory":
        """Returns the snapshots of one task."""
        return msgspec.structs.replace(self, snapshots=tuple(s for s in self.snapshots if s.task == task))

    @classmethod
    def joined(cls, parts: Iterable["FilterHistory"]) -> "FilterHistory":
        """Returns one history of several tasks' own.

        Args:
            parts: In the order of training.

        Raises:
            ValueError: If they do not watch the same filters.
        """
        found = [part for part in parts if part.snapshots]
        if len({part.filters for part in found}) > 1:
            raise ValueError("the tasks watch different filters")
        return cls(found[0].filters, tuple(s for part in found for s in part.snapshots)) if found else cls()


def write_filters(path: Path, history: FilterHistory) -> None:
    """Replaces the file as a whole.

    Raises:
        ValueError: If a weight is NaN or infinite.
    """
    write_json(path, history)


def read_filters(path: Path) -> FilterHistory:
    """Returns what :func:`write_filters` wrote.

    Raises:
        ValueError: If it is damaged, or something else.
        OSError: If it cannot be read.
    """
    try:
        return read_json(path, FilterHistory)
    except ValueError as error:
        raise ValueError(f"{path} is not a history of filters, or is damaged: {error}") from error


def _size(grid: Grid | OwnerGrid) -> tuple[int, int]:
    return len(grid), len(grid[0]) if grid else 0


def _is_whole(grid: Grid | OwnerGrid) -> bool:
    return len({len(row) for row in grid}) == 1
