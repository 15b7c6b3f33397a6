"""Names under which loggers get what is measured: the task, the phase, and what it is."""

import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from packnet_pl.choices import Phase
from packnet_pl.run.task_record import TaskRecord

__all__ = ["finished_metrics", "fit_metrics", "free_share", "prune_metrics", "task_labels"]

_NO_TASK = ("capacity", "result")  # what names of the whole run begin with
_LONGEST = 60


def task_labels(names: Iterable[str]) -> dict[str, str]:
    """Returns a distinct label for each task, of letters, digits, ``_``, ``.`` and ``-``, which every logger takes.

    Args:
        names: Of the tasks, in order; later ones do not change the labels of those before.
    """
    labels: dict[str, str] = {}
    taken = set(_NO_TASK)
    for name in names:
        ascii_only = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
        plain = re.sub(r"[^\w.-]+", "_", ascii_only, flags=re.ASCII)[:_LONGEST].strip("_") or "task"
        label, number = plain, 1
        while label in taken:
            number += 1
            label = f"{plain}-{number}"
        taken.add(label)
        labels[name] = label
    return labels


def fit_metrics(metrics: Mapping[str, float], label: str, phase: Phase) -> dict[str, float]:
    """Returns a row of ``metrics.csv`` under the names that loggers get.

    Args:
        metrics: As the module and callbacks log them: ``train_loss``, ``val_accuracy``, ``packnet/free``, ...
        label: Of the task.
        phase: Of the fit.
    """
    found = {}
    for name, value in metrics.items():
        if name == "packnet/free":
            found["capacity/free"] = value
        elif name == "packnet/owned":
            found[f"{label}/owned"] = value
        else:
            short = name.removeprefix("train_")
            found[f"{label}/{phase}/{name if short in metrics else short}"] = value
    return found


def prune_metrics(
    label: str, *, ratio: float, owned: float, free: float, val_accuracy: Mapping[str, float | None]
) -> dict[str, float]:
    """Returns what is logged of the pruning of a task.

    A task claims every free weight when it begins, so what is free after its pruning is what the pruning released.

    Args:
        label: Of the task.
        ratio: Its prune ratio, in [0, 1).
        owned: Share of all prunable weights that it owns after it.
        free: Share that nobody owns after it.
        val_accuracy: "dense" and "pruned" accuracy, in [0, 1]; None where it is not known.
    """
    found: dict[str, float | None] = {
        f"{label}/prune/ratio": ratio,
        f"{label}/prune/owned": owned,
        f"{label}/prune/released": free,
        f"{label}/prune/val_accuracy_before": val_accuracy["dense"],
        f"{label}/prune/val_accuracy_after": val_accuracy["pruned"],
        "capacity/free": free,
    }
    return {name: value for name, value in found.items() if value is not None}


def finished_metrics(records: Sequence[TaskRecord], labels: Mapping[str, str]) -> dict[str, float]:
    """Returns what is logged when a task is finished: the accuracies of all tasks so far, and what is free.

    Args:
        records: Of the tasks so far, in order.
        labels: Task -> label.
    """
    last = records[-1]
    found = {f"{labels[name]}/test_accuracy": scores.top1 for name, scores in last.scores.items()}
    known = {labels[name]: value for name, value in last.val_now.items() if value is not None}
    found |= {f"{label}/val_accuracy": value for label, value in known.items()}
    if known:
        found["result/val_accuracy"] = sum(known.values()) / len(known)
    free = free_share(records)
    return found if free is None else {**found, "capacity/free": free}


def free_share(records: Sequence[TaskRecord]) -> float | None:
    """Returns the share of all prunable weights, in [0, 1], that no task owns; None if the method owns none."""
    owned = [record.task.owned for record in records if record.task.owned is not None]
    return max(0.0, 1.0 - sum(owned)) if len(owned) == len(records) else None
