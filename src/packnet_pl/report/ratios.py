"""Groups the runs of a sweep into rows of error against prune ratio, over their seeds."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean, stdev

from packnet_pl.report.kinds import by_kind, is_comparison, ratio_of, sequences, setting_labels
from packnet_pl.report.runs import SPLIT_NAMES, Run

__all__ = ["RatioRow", "ratio_rows", "ratio_tables", "spread"]


@dataclass(frozen=True)
class RatioRow:
    """The runs that differ in their seed alone.

    Attributes:
        name: Method, backbone, and the settings that tell it from other runs of the method.
        ratio: A number for every task, or a list in words.
        runs: One per seed.
    """

    name: str
    ratio: float | str
    runs: tuple[Run, ...]

    @property
    def heading(self) -> str:
        """The title of the figure of all ratios of these runs."""
        return f"{SPLIT_NAMES[self.runs[0].split]} error at the end: {self.name}"

    @property
    def tasks(self) -> list[str]:
        """The tasks, in order."""
        return list(self.runs[0].errors)

    def errors(self, task: str | None) -> list[float]:
        """Returns the error of ``task`` per seed, or of None: the mean over the tasks; in [0, 1]."""
        return [run.error(task) for run in self.runs]

    @property
    def free(self) -> float | None:
        """Mean share of the weights that nobody owns."""
        found = [run.free for run in self.runs if run.free is not None]
        return fmean(found) if found else None


def ratio_rows(runs: Iterable[Run]) -> list[RatioRow]:
    """Groups ``runs``: by tasks, backbone, method and settings, and then by prune ratio, in rising order."""
    rows = []
    for group in sequences(runs):
        kinds = by_kind(group)
        found = [
            RatioRow(
                ", ".join([f"{kind.method} on {same[0].arch}", *setting_labels(kind, kinds)]),
                ratio_of(kind, kinds),
                tuple(same),
            )
            for kind, same in kinds.items()
        ]
        rows += sorted(found, key=lambda row: row.name)
    return rows


def ratio_tables(runs: Sequence[Run]) -> list[list[RatioRow]]:
    """Returns the rows of one table per method and settings that are worth one.

    Args:
        runs: Of one sequence and backbone. Where there are methods or settings to compare, their table tells enough of
            what has one ratio alone.
    """
    tables = [list(group) for _, group in groupby(ratio_rows(runs), key=lambda row: row.name)]
    return [rows for rows in tables if len(rows) > 1 or not is_comparison(runs)]


def spread(fractions: Sequence[float], stacked: bool = False) -> str:
    """Returns mean and sample standard deviation of ``fractions``, in percent; the mean alone if there is one."""
    between = "\n± " if stacked else " ± "
    mean = f"{100 * fmean(fractions):z.2f}"
    return mean if len(fractions) < 2 else f"{mean}{between}{100 * stdev(fractions):.2f}"
