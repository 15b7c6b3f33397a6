"""Reads a run directory for its report: how its tasks were learned, who owns what, what is taken for what."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from packnet_pl.choices import PHASES
from packnet_pl.confusion import Confusion, read_confusion
from packnet_pl.container import open_packed
from packnet_pl.filter_history import FilterHistory, read_filters
from packnet_pl.ratio_choice import RatioTrials, read_trials
from packnet_pl.report.curves import Curve, read_curve
from packnet_pl.run_directory import confusion_path, filters_path, metrics_path, packed_path, ratio_trials_path
from packnet_pl.shares import Share, shares_of, total_of

__all__ = ["RunStory", "read_story"]


@dataclass(frozen=True)
class RunStory:
    """What a run directory records beside ``results.json`` and ``run.yaml``.

    Attributes:
        tasks: Names of the finished tasks, in order.
        layers: Name of each prunable weight -> its share; empty where tasks own none.
        total: Of all layers together, in the order of the tasks in the packed file.
        parts: What the packed file is made of -> bytes: "weights", "owners", "heads and the rest"; empty without one.
        curves: In the order of training, train before retrain; none where nothing was logged as CSV.
        filters: A few filters over the moments of all tasks; without snapshots where none were taken.
        confusions: Task -> its confusion matrix when it was tested last.
        trials: Task -> the prune ratios that were tried for it; without tasks whose ratio was given.
        missing: What could not be read, one sentence each.
    """

    tasks: tuple[str, ...]
    layers: Mapping[str, Share]
    total: Share
    parts: Mapping[str, int]
    curves: tuple[Curve, ...]
    filters: FilterHistory
    confusions: Mapping[str, Confusion]
    trials: Mapping[str, RatioTrials]
    missing: tuple[str, ...]


def read_story(folder: Path, tasks: tuple[str, ...]) -> RunStory:
    """Reads the run in ``folder``; what is not there or damaged is left out, and said in ``missing``.

    Args:
        folder: The run directory.
        tasks: Names of the finished tasks, in order.
    """
    missing: list[str] = []
    layers, parts = _packed(folder, missing)
    return RunStory(
        tasks=tasks,
        layers=layers,
        total=total_of(layers, list(next(iter(layers.values())).owned) if layers else []),
        parts=parts,
        curves=_curves(folder, tasks, missing),
        filters=_filters(folder, tasks, missing) if layers else FilterHistory(),
        confusions=_confusions(folder, tasks, missing),
        trials=_trials(folder, tasks, missing),
        missing=tuple(missing),
    )


def _packed(folder: Path, missing: list[str]) -> tuple[dict[str, Share], dict[str, int]]:
    try:
        packed = open_packed(packed_path(folder))
    except (ValueError, OSError) as error:
        missing.append(f"Who owns which weights is not known: {error}.")
        return {}, {}
    parts = {"weights": packed.bytes_below("values/"), "owners": packed.bytes_below("owners/")}
    return shares_of(packed.counts, packed.tasks), {**parts, "heads and the rest": packed.size - sum(parts.values())}


def _curves(folder: Path, tasks: tuple[str, ...], missing: list[str]) -> tuple[Curve, ...]:
    found = []
    for task in tasks:
        for phase in PHASES:
            path = metrics_path(folder, task, phase)
            try:
                curve = read_curve(path, task, phase)
            except FileNotFoundError:
                continue
            except (ValueError, OSError) as error:
                missing.append(f"A learning curve of {task} is left out: {error}.")
                continue
            if curve.epochs:
                found.append(curve)
    if not found:
        missing.append("There are no learning curves: the run wrote no metrics.csv (logger=csv does).")
    return tuple(found)


def _filters(folder: Path, tasks: tuple[str, ...], missing: list[str]) -> FilterHistory:
    parts, without = [], []
    for task in tasks:
        try:
            parts.append(read_filters(filters_path(folder, task)))
        except FileNotFoundError:
            without.append(task)
        except (ValueError, OSError) as error:
            missing.append(f"The filters of {task} are left out: {error}.")
    if without:
        missing.append(f"No filters were recorded of {', '.join(without)}: an earlier version or another run did that.")
    try:
        return FilterHistory.joined(parts)
    except ValueError as error:
        missing.append(f"The evolution of filters is left out: {error}.")
        return FilterHistory()


def _check_images(confusion: Confusion) -> None:
    from PIL import Image

    for pair in confusion.pairs:
        for example in (*pair.examples, *([pair.reference] if pair.reference else [])):
            try:
                Image.open(io.BytesIO(example.png)).load()
            except (OSError, SyntaxError) as error:  # Pillow's, of what is no PNG file, or not whole
                raise ValueError(f"its copy of image {example.index} cannot be read") from error


def _confusions(folder: Path, tasks: tuple[str, ...], missing: list[str]) -> dict[str, Confusion]:
    found, without = {}, []
    for task in tasks:
        try:
            confusion = read_confusion(confusion_path(folder, task))
            _check_images(confusion)
            found[task] = confusion
        except FileNotFoundError:
            without.append(task)
        except (ValueError, OSError) as error:
            missing.append(f"The confusion matrix of {task} is left out: {error}.")
    if without:
        missing.append(
            f"No confusion matrix was recorded of {', '.join(without)}: an earlier version or another run tested that."
        )
    return found


def _trials(folder: Path, tasks: tuple[str, ...], missing: list[str]) -> dict[str, RatioTrials]:
    found = {}
    for task in tasks:
        try:
            found[task] = read_trials(ratio_trials_path(folder, task))
        except FileNotFoundError:
            continue
        except (ValueError, OSError) as error:
            missing.append(f"The prune ratios that were tried for {task} are left out: {error}.")
    return found
