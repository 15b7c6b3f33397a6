"""Tabulates the prune ratios that a run tried for its tasks, and which of them it chose."""

from collections.abc import Mapping, Sequence

from packnet_pl.ratio_choice import RatioTrial, RatioTrials, is_within
from packnet_pl.report.page import Table
from packnet_pl.report.table import percent
from packnet_pl.results import TaskResult

__all__ = ["trials_table"]


def trials_table(tasks: Sequence[TaskResult], trials: Mapping[str, RatioTrials], tolerance: object) -> Table:
    """Returns a row per trial, in order.

    Args:
        tasks: Of the run, in order.
        trials: Task -> its trials.
        tolerance: Points of validation accuracy that may be lost, if a number: otherwise it is not known any more.
    """
    known = float(tolerance) if isinstance(tolerance, int | float) else None
    rejected = "" if known is None else f"; a ratio is rejected if that less the standard error is above {known:g}"
    return Table(
        "Prune ratios that were tried: validation accuracy after retraining, in %, and how much lower it is than "
        f"that of the dense network, with its standard error, in points{rejected}",
        ["task", "ratio", "accuracy", "lost", "lost at least", "verdict"],
        [_row(task, trial, known) for task in tasks if task.name in trials for trial in trials[task.name].trials],
    )


def _row(task: TaskResult, trial: RatioTrial, tolerance: float | None) -> list[str]:
    dense = task.val_accuracy.get("dense")
    verdicts = [] if tolerance is None else ["within" if is_within(trial, tolerance) else "rejected"]
    verdicts += ["chosen"] if trial.ratio == task.prune_ratio else []
    return [
        task.name,
        f"{trial.ratio:.4g}",
        percent(None if dense is None else dense - trial.drop / 100),
        f"{trial.drop:.2f} ± {trial.standard_error:.2f}",
        f"{trial.drop - trial.standard_error:.2f}",
        ", ".join(verdicts),
    ]
