"""Finds the finished runs below some folders, and reads what ``results.json`` says of each."""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from packnet_pl.counting import counted
from packnet_pl.results import read_results
from packnet_pl.run_directory import results_path, run_path
from packnet_pl.sweep_jobs import jobs_since

__all__ = ["SPLITS", "SPLIT_NAMES", "Run", "find_runs", "is_run"]

SPLITS = ("test", "val")
SPLIT_NAMES = {"test": "Test", "val": "Validation"}


@dataclass(frozen=True)
class Run:
    """The results of one finished run.

    Attributes:
        folder: Its directory.
        method: Name of the method.
        arch: Name of the backbone.
        settings: What the method was set to, name -> value in words; empty where it has nothing to set.
        seed: Of the run.
        tasks: In order.
        ratios: Prune ratio per task; None where nothing was released.
        split: "test" or "val": what ``errors`` were measured on.
        errors: Task -> top-1 error on that split at the end of the run, in [0, 1]; without tasks that lack the split.
        forgetting: Task -> accuracy on the test split when it was finished minus that at the end; None where it has no
            meaning, and on the validation split.
        free: Share of all prunable weights that nobody owns, or None.
        networks: How many networks are kept.
        megabytes: Of the file with all tasks, in 10^6 bytes.
        bits: What it takes per weight to tell which task uses it, in bits; 0 if nothing is owned.
        seconds: Wall time of all tasks; None where that of one is not known.
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
    megabytes: float
    bits: float
    seconds: float | None

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
        found = [folder] if is_run(folder) else _runs_in(folder)
        if not found:
            raise ValueError(f"{folder} is neither a run directory nor a folder of them: there is no results.json")
        for path in found:
            paths.setdefault(path.resolve(), path)
    runs, unfinished = [], []
    for path in paths.values():
        run = _read(path, split) if results_path(path).is_file() else None
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


def is_run(folder: Path) -> bool:
    """Returns whether ``folder`` is a run directory."""
    return results_path(folder).exists() or run_path(folder).exists() or (folder / ".hydra").is_dir()


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
        elif path != folder and is_run(path):
            found[path.resolve()] = path
            names.clear()
        seen.add(path.resolve())
    return sorted(found.values(), key=_by_numbers)


def _by_numbers(folder: Path) -> list[tuple[float, str]]:
    return [(float(part) if part.isdecimal() else float("inf"), part) for part in folder.parts]


def _read(folder: Path, split: str) -> Run | None:
    results = read_results(folder)
    if not results.complete:
        return None
    names = tuple(task.name for task in results.tasks)
    unknown: list[float | None] = [None] * len(names)
    accuracy, forgetting = (results.accuracy[-1], results.forgetting) if split == "test" else (results.val_now, unknown)
    return Run(
        folder=folder,
        method=results.method,
        arch=results.arch,
        settings={name: _as_text(value) for name, value in _with_rule(results.settings).items()},
        seed=results.seed,
        tasks=names,
        ratios=tuple(task.prune_ratio for task in results.tasks),
        split=split,
        errors={name: 1 - part for name, part in zip(names, accuracy, strict=True) if part is not None},
        forgetting=dict(zip(names, forgetting, strict=True)),
        free=results.free,
        networks=results.storage.networks,
        megabytes=results.storage.packed_bytes / 1e6,
        bits=results.storage.owner_bits_per_weight,
        seconds=_sum([task.seconds for task in results.tasks]),
    )


def _sum(parts: Sequence[float | None]) -> float | None:
    known = [part for part in parts if part is not None]
    return sum(known) if len(known) == len(parts) else None


def _with_rule(settings: Mapping[str, object]) -> Mapping[str, object]:
    """Returns ``settings`` with what tasks divide: before there was a choice, that was the paper's."""
    return {"prunable": "paper", **settings} if {"norm", "bias"} <= settings.keys() else settings


def _as_text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, int | float) else str(value)
