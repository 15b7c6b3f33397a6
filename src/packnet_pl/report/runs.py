"""The finished runs below some folders, and what they have in common."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Run", "find_runs"]


@dataclass(frozen=True)
class Run:
    """What one finished run came to.

    Attributes:
        folder: Its directory.
        method: Name of the method.
        arch: Name of the backbone.
        seed: Of the run.
        ratios: Prune ratio per task; None where nothing was released.
        errors: Task -> top-1 error on its test split at the end of the run, in [0, 1].
        forgetting: Task -> accuracy when it was finished minus accuracy at the end; None where it has no meaning.
        free: Share of all prunable weights that nobody owns, or None.
    """

    folder: Path
    method: str
    arch: str
    seed: int
    ratios: tuple[float | None, ...]
    errors: Mapping[str, float]
    forgetting: Mapping[str, float | None]
    free: float | None

    @property
    def ratio(self) -> float | str:
        """The prune ratio, if it is one number for every task that was pruned; else a list of all, in words."""
        numbers = {ratio for ratio in self.ratios if ratio is not None}
        if len(numbers) == 1:
            return numbers.pop()
        return "[" + ", ".join("-" if ratio is None else f"{ratio:g}" for ratio in self.ratios) + "]"


def find_runs(folders: Iterable[Path]) -> tuple[list[Run], list[Path]]:
    """Reads the runs in ``folders``: each is a run directory, or a folder of them, as a sweep leaves.

    Returns:
        The finished runs, in order, and the folders of those that are not finished.

    Raises:
        ValueError: If a folder is not there or holds no run, or a results file is damaged.
    """
    runs, unfinished = [], []
    for folder in folders:
        places = [folder] if _is_run(folder) else sorted(filter(_is_run, _children(folder)), key=_by_number)
        if not places:
            raise ValueError(f"{folder} is neither a run directory nor a folder of them: there is no results.json")
        for place in places:
            run = _read(place / "results.json") if (place / "results.json").is_file() else None
            if run is None:
                unfinished.append(place)
            else:
                runs.append(run)
    return runs, unfinished


def _is_run(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("results.json", "run.yaml")) or (folder / ".hydra").is_dir()


def _children(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}")
    return [child for child in folder.iterdir() if child.is_dir()]


def _by_number(folder: Path) -> tuple[int, str]:
    return (int(folder.name) if folder.name.isdigit() else 10**9, folder.name)


def _read(path: Path) -> Run | None:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if not found["complete"]:
            return None
        names = [task["name"] for task in found["tasks"]]
        return Run(
            folder=path.parent,
            method=found["method"],
            arch=found["arch"],
            seed=found["seed"],
            ratios=tuple(task["prune_ratio"] for task in found["tasks"]),
            errors={name: 1 - accuracy for name, accuracy in zip(names, found["accuracy"][-1], strict=True)},
            forgetting=dict(zip(names, found["forgetting"], strict=True)),
            free=found["free"],
        )
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise ValueError(f"{path} is not a results file, or is damaged: {error}") from error
