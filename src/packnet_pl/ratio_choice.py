"""Chooses a prune ratio from trials: the largest that costs no more accuracy than is tolerated. Torch-free."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from packnet_pl.records import read_json

__all__ = [
    "RatioSearch",
    "RatioTrial",
    "RatioTrials",
    "chosen_ratio",
    "is_within",
    "least_ratio",
    "next_ratio",
    "paired_drop",
    "read_trials",
]


class RatioTrial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A trial: a task was pruned by a ratio, retrained and validated.

    Attributes:
        ratio: In [0, 1).
        drop: By how much its validation accuracy is below that of the dense network, in points; it may be below 0.
        standard_error: Of the drop, in points.
    """

    ratio: float
    drop: float
    standard_error: float


class RatioTrials(msgspec.Struct, forbid_unknown_fields=True):
    """The trials of a task, as its folder has them.

    Attributes:
        images: How many it was validated on.
        trials: So far, in order.
    """

    images: int
    trials: list[RatioTrial]


@dataclass(frozen=True)
class RatioSearch:
    """What is looked for.

    Attributes:
        least: The ratio that gives each later task its share; no lower one is chosen.
        tolerance: Points of validation accuracy that may be lost, 0 or more.
        trials: How many ratios above the least are tried, 1 or more.
    """

    least: float
    tolerance: float
    trials: int


def least_ratio(later: int) -> float:
    """Returns the ratio, rounded up, that leaves so many tasks to come an equal share of what is free each."""
    return math.ceil(10_000 * later / (later + 1)) / 10_000


def paired_drop(dense: Sequence[bool], retrained: Sequence[bool]) -> tuple[float, float]:
    """Returns by how much accuracy fell on the same images, and the standard error of that, both in points.

    The differences are taken image by image, so that images that both networks get right, or both wrong, add no noise.
    A single image says nothing, and its standard error is 100 points.

    Args:
        dense: Whether the dense network is right, for each image, one or more.
        retrained: Likewise, of the network that was pruned and retrained.
    """
    differences = [int(before) - int(now) for before, now in zip(dense, retrained, strict=True)]
    count = len(differences)
    mean = sum(differences) / count
    if count < 2:
        return 100 * mean, 100.0
    variance = sum((difference - mean) ** 2 for difference in differences) / (count - 1)
    return 100 * mean, 100 * math.sqrt(variance / count)


def is_within(trial: RatioTrial, tolerance: float) -> bool:
    """Returns whether the drop, less one standard error, is at most the tolerance: it is not shown to be above it."""
    return trial.drop - trial.standard_error <= tolerance


def next_ratio(trials: Sequence[RatioTrial], search: RatioSearch) -> float | None:
    """Returns the ratio to try next, by bisection; None when the search is over.

    The least ratio comes first: if that loses too much already, no higher one is tried.

    Args:
        trials: So far, in order.
        search: What is looked for.
    """
    if not trials:
        return search.least
    if not is_within(trials[0], search.tolerance) or len(trials) > search.trials:
        return None
    low, high = search.least, 1.0
    for trial in trials[1:]:
        if is_within(trial, search.tolerance):
            low = trial.ratio
        else:
            high = trial.ratio
    middle = round((low + high) / 2, 4)
    return middle if low < middle < high else None


def chosen_ratio(trials: Sequence[RatioTrial], search: RatioSearch) -> float:
    """Returns the largest ratio that was tried and is within the tolerance; the least one if none is."""
    return max((trial.ratio for trial in trials if is_within(trial, search.tolerance)), default=search.least)


def read_trials(path: Path) -> RatioTrials:
    """Reads the trials of a task.

    Raises:
        FileNotFoundError: If there were none.
        ValueError: If the file is damaged.
    """
    try:
        return read_json(path, RatioTrials)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}") from error
