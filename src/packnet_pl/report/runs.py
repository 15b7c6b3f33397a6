"""Finds the finished runs below some folders, and reads what ``results.json`` says of each."""

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from packnet_pl.counting import counted
from packnet_pl.sweep_jobs import jobs_since

__all__ = ["SPLITS", "Run", "find_runs"]

SPLITS = ("test", "val")


@dataclass(frozen=True)
class Run:
    """The results of one finished run.

    Attributes:
        folder: Its directory.
        method: Name of the method.
        arch: Name of the backbone.
        settings: What the method was set to, name -> value in words; empty where the results file says nothing of it.
        seed: Of the run.
        tasks: In order.
        ratios: Prune ratio per task; None where nothing was released.
        split: "test" or "val": what ``errors`` were measured on.
        errors: Task -> top-1 error on that split at the end of the run, in [0, 1]; without tasks that lack the split.
        forgetting: Task -> accuracy on the test split when it was finished minus that at the end; None where it has no
            meaning, and on the validation split.
        free: Share of all prunable weights that nobody owns, or None.
        networks: How many networks are kept.
        megabytes: Of the file with all tasks, in 10^6 bytes, or None.
    """

    folder: Path
    method: str
    arch: str
    settings: Mapping[str, str]
    seed: int
    tasks: tuple[str, ...]
    ratios: tuple[float | None, ...]
    split: str
    errors: Mapping[str, float]
    forgetting: Mapping[str, float | None]
    free: float | None
    networks: int
    megabytes: float | None

    def error(self, task: str | None) -> float:
        """Returns the error of ``task``, or of None: the mean over the tasks; in [0, 1]."""
        return fmean(self.errors.values()) if task is None else self.errors[task]

    @property
    def mean_forgetting(self) -> float | None:
        """Mean over all tasks but the last, which nothing came after; None where it has no meaning."""
        found = [value for task in self.tasks[:-1] if (value := self.forgetting[task]) is not None]
        return fmean(found) if found else None


def find_runs(folders: Iterable[Path], split: str = "test") -> tuple[list[Run], list[Path]]:
    """Reads the runs in ``folders``: each is a run directory, or a folder with runs anywhere in it, as a sweep leaves.

    Args:
        folders: A run that is named twice is read once.
        split: "test" or "val": which errors to read.

    Returns:
        The finished runs, in order, and the folders of those that are not finished.

    Raises:
        ValueError: If a folder is not there or holds no run, a results file is damaged, or a finished run has no error
            on the split.
    """
    paths: dict[Path, Path] = {}
    for folder in folders:
        found = [folder] if _is_run(folder) else _runs_in(folder)
        if not found:
            raise ValueError(f"{folder} is neither a run directory nor a folder of them: there is no results.json")
        for path in found:
            paths.setdefault(path.resolve(), path)
    runs, unfinished = [], []
    for path in paths.values():
        run = _read(path / "results.json", split) if (path / "results.json").is_file() else None
        if run is None:
            unfinished.append(path)
        else:
            runs.append(run)
    lacking = [str(run.folder) for run in runs if not run.errors]
    if lacking:
        raise ValueError(
            f"{len(lacking)} of {counted(len(runs), 'finished run')} without a validation accuracy of their end "
            f"(val_now in results.json): {', '.join(lacking)}; run them anew with a validation split, or leave them out"
        )
    return runs, unfinished


def _is_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("results.json", "run.yaml")) or (folder / ".hydra").is_dir()


def _runs_in(folder: Path) -> list[Path]:
    """Returns the jobs of the sweep in ``folder``, and every run below it, hidden folders included."""
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}")
    found = {job.folder.resolve(): job.folder for job in jobs_since(folder) if job.folder.is_dir()}
    seen = set()
    for entry, names, _ in os.walk(folder, followlinks=True):
        path = Path(entry)
        if path.resolve() in seen:  # a link that leads back
            names.clear()
        elif path != folder and _is_run(path):
            found[path.resolve()] = path
            names.clear()
        seen.add(path.resolve())
    return sorted(found.values(), key=_by_numbers)


def _by_numbers(folder: Path) -> list[tuple[float, str]]:
    return [(float(part) if part.isdecimal() else float("inf"), part) for part in folder.parts]


def _read(path: Path, split: str) -> Run | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not found["complete"]:
            return None
        names = tuple(task["name"] for task in found["tasks"])
        if split == "test":
            accuracy, forgetting = found["accuracy"][-1], found["forgetting"]
        else:
            accuracy, forgetting = found.get("val_now") or [None] * len(names), [None] * len(names)
        # Older files do not say how many networks there are, nor what the method was set to.
        storage = found.get("storage", {})
        packed = storage.get("packed_bytes")
        return Run(
            folder=path.parent,
            method=found["method"],
            arch=found["arch"],
            settings={name: _as_text(value) for name, value in found.get("settings", {}).items()},
            seed=found["seed"],
            tasks=names,
            ratios=tuple(task["prune_ratio"] for task in found["tasks"]),
            split=split,
            errors={name: 1 - part for name, part in zip(names, accuracy, strict=True) if part is not None},
            forgetting=dict(zip(names, forgetting, strict=True)),
            free=found["free"],
            networks=storage.get("networks", len(names) if found["method"] == "individual" else 1),
            megabytes=None if packed is None else packed / 1e6,
        )
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"{path} is not a results file, or is damaged: {error}") from error


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, int | float) else str(value)
