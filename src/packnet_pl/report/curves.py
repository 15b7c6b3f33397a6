"""Reads learning curves: what a task's ``metrics.csv`` holds of each epoch."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from packnet_pl.choices import Phase

__all__ = ["Curve", "read_curve"]

_NAMES = ("train_accuracy", "val_accuracy", "train_loss", "val_loss")
_LARGEST = 1e30


@dataclass(frozen=True)
class Curve:
    """What was logged in one phase of a task.

    Attributes:
        task: Its name.
        phase: "train" or "retrain".
        epochs: Numbers of the epochs, from 0, in order.
        values: "train_accuracy", "val_accuracy" (in [0, 1]), "train_loss" and "val_loss" -> one value per epoch; None
            where there is none, or it is not finite.
    """

    task: str
    phase: Phase
    epochs: tuple[int, ...]
    values: Mapping[str, tuple[float | None, ...]]


def read_curve(path: Path, task: str, phase: Phase) -> Curve:
    """Reads a ``metrics.csv``; of the rows of an epoch the last one that has a value counts.

    Args:
        path: Of the file.
        task: That it is of.
        phase: Likewise.

    Raises:
        ValueError: If it is no such file.
        OSError: If it cannot be read.
    """
    found: dict[int, dict[str, float]] = {}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row.get("epoch"):
                    known = {name: float(value) for name in _NAMES if (value := row.get(name))}
                    # A fit that diverged has others; no axis reaches them.
                    known = {name: value for name, value in known.items() if abs(value) <= _LARGEST}
                    found.setdefault(int(float(row["epoch"])), {}).update(known)
    except (ValueError, OverflowError, csv.Error) as error:
        raise ValueError(f"{path} is damaged: {error}") from error
    epochs = sorted(epoch for epoch, values in found.items() if values)
    values = {name: tuple(found[epoch].get(name) for epoch in epochs) for name in _NAMES}
    return Curve(task, phase, tuple(epochs), values)
