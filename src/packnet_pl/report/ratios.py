"""Error against prune ratio: what a sweep is made for."""

import csv
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean, stdev

from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.box import SIMPLE_HEAD
from rich.table import Table

from packnet_pl.files import replacing
from packnet_pl.names import as_unicode
from packnet_pl.report.kinds import by_kind, is_comparison, ratio_of, sequences, setting_words
from packnet_pl.report.runs import Run

__all__ = ["RatioRow", "draw_ratios", "ratio_rows", "ratio_table", "ratio_tables", "spread", "write_ratios_csv"]


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
                ", ".join([f"{kind.method} on {same[0].arch}", *setting_words(kind, kinds)]),
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


def ratio_table(rows: Sequence[RatioRow], stacked: bool = False) -> Table:
    """Returns one row per prune ratio, with mean and standard deviation over the seeds.

    Args:
        rows: Of one method, backbone and sequence.
        stacked: Puts the spread below the mean, for narrow screens.
    """
    ending = "error at the end" if rows[0].runs[0].split == "test" else "error at the end on the validation split"
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=f"{rows[0].name}: {ending}, in %")
    table.add_column("prune ratio", no_wrap=True)
    for heading in [*rows[0].tasks, "mean", "free", "seeds"]:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        cells = [spread(row.errors(task), stacked) for task in [*row.tasks, None]]
        free = "-" if row.free is None else f"{100 * row.free:.2f}"
        table.add_row(str(row.ratio), *cells, free, str(len(row.runs)))
    return table


def spread(fractions: Sequence[float], stacked: bool = False) -> str:
    """Returns mean and sample standard deviation of ``fractions``, in percent; the mean alone if there is one."""
    between = "\n± " if stacked else " ± "
    mean = f"{100 * fmean(fractions):z.2f}"
    return mean if len(fractions) < 2 else f"{mean}{between}{100 * stdev(fractions):.2f}"


def write_ratios_csv(rows: Iterable[RatioRow], path: str | os.PathLike[str]) -> None:
    """Writes one line per run and task, replacing ``path`` as a whole."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method_and_arch", "prune_ratio", "seed", "task", "error", "forgetting", "free", "folder"])
    for row in rows:
        for run in row.runs:
            for task, error in run.errors.items():
                forgetting = run.forgetting[task]
                writer.writerow(
                    [row.name, row.ratio, run.seed, task, error, forgetting, run.free, as_unicode(run.folder.name)]
                )
    with replacing(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def draw_ratios(rows: Sequence[RatioRow], path: str | os.PathLike[str]) -> None:
    """Draws the error of each task against the prune ratio, and below it what stays free.

    Args:
        rows: Of one method, backbone and sequence.
        path: Of the PNG file.
    """
    numbers = all(isinstance(row.ratio, float) for row in rows)
    places = [float(row.ratio) if numbers else float(index) for index, row in enumerate(rows)]
    figure = Figure(figsize=(7.5, 6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    lines = [*rows[0].tasks, None]
    for number, task in enumerate(lines):
        samples = [[100 * error for error in row.errors(task)] for row in rows]
        upper.errorbar(
            places,
            [fmean(sample) for sample in samples],
            [stdev(sample) if len(sample) > 1 else 0.0 for sample in samples],
            marker="o",
            markersize=4,
            capsize=3,
            linewidth=2.5 if task is None else 1.3,
            color="#222222" if task is None else colormaps["viridis"](0.05 + 0.8 * number / max(1, len(lines) - 2)),
            label="mean" if task is None else task,
        )
    split = {"test": "test", "val": "validation"}[rows[0].runs[0].split]
    upper.set(ylabel=f"{split} error at the end, %", title=rows[0].name)
    free = [(place, 100 * row.free) for place, row in zip(places, rows, strict=True) if row.free is not None]
    lower.plot(*zip(*free, strict=True), marker="o", markersize=4, color="#888888") if free else None
    lower.set(ylabel="free, %", xlabel="prune ratio")
    lower.set_xticks(places, [str(row.ratio) for row in rows], rotation=0 if numbers else 30)
    for axes in (upper, lower):
        axes.set_ylim(0, 1.06 * axes.get_ylim()[1])
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#eeeeee")
    figure.legend(*upper.get_legend_handles_labels(), loc="outside right upper", frameon=False)
    FigureCanvasAgg(figure)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)
