"""Draws the comparison of methods: error per task, and mean error against size."""

import os
from collections.abc import Sequence
from statistics import fmean, median, stdev
from textwrap import wrap
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from packnet_pl.files import replacing
from packnet_pl.report.methods import MethodComparison, MethodRow

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["draw_methods"]

# Okabe and Ito's colours, which the colour-blind can tell apart.
COLOURS = {
    "individual": "#000000",
    "classifier_only": "#7f7f7f",
    "finetune": "#d55e00",
    "lwf": "#e69f00",
    "joint": "#cc79a7",
    "packnet": "#0072b2",
}
OTHER_COLOUR = "#009e73"
MARKERS = {"individual": "s", "classifier_only": "D", "finetune": "v", "lwf": "^", "joint": "P", "packnet": "o"}


class _Point(NamedTuple):
    size: float
    error: float
    number: str
    colour: str


def draw_methods(comparison: MethodComparison, path: str | os.PathLike[str]) -> None:
    """Draws each method's error on each task, and beside it the mean error against the megabytes that are kept.

    Points are means, bars sample standard deviations over the seeds; the numbers at the right are those of the rows.

    Args:
        comparison: From :func:`compare_methods`.
        path: Of the PNG file.
    """
    # Half a second to import, and only figures need it.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = comparison.rows
    columns = [*comparison.tasks, None]
    height = 1.5 + 0.27 * max(len(rows), 6)
    figure = Figure(figsize=(5.7 + 1.1 * len(columns), height), layout="constrained")
    ratios = [*[1.0] * len(columns), 2.7]
    panels = figure.subplots(1, len(ratios), width_ratios=ratios, squeeze=False)[0]
    for index, (axes, task) in enumerate(zip(panels[: len(columns)], columns, strict=True)):
        _draw_errors(axes, rows, task)
        title = "mean" if task is None else "\n".join(_wrapped(task))
        axes.set_title(title, fontsize=10, fontweight="bold" if task is None else "normal")
        axes.tick_params(axis="y", length=0, labelleft=index == 0)
    _draw_sizes(panels[-1], rows)
    figure.suptitle(_title(comparison), fontsize=11)
    FigureCanvasAgg(figure)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=200)


def _title(comparison: MethodComparison) -> str:
    split = {"test": "Test", "val": "Validation"}[comparison.split]
    return f"{split} error at the end of the sequence on {comparison.arch}, %"


def _wrapped(task: str) -> list[str]:
    """Returns the lines of a panel's title: names break after spaces, hyphens and underscores, if they can."""
    return [line.replace("_ ", "_") for line in wrap(task.replace("_", "_ "), width=13)]


def _draw_errors(axes: "Axes", rows: Sequence[MethodRow], task: str | None) -> None:
    """Draws one line of a dot plot per row, the first at the top."""
    from matplotlib.ticker import MaxNLocator

    for height, row in enumerate(rows):
        mean, deviation = _percent(row.errors(task))
        if row.method == "individual":
            axes.axvline(mean, color="#000000", linewidth=0.8, linestyle=":", zorder=1)
        _draw_point(axes, mean, height, row, xerr=deviation)
    names = [f"{row.label}  {number}" for number, row in enumerate(rows, start=1)]
    axes.set_yticks(range(len(rows)), names, fontsize=9)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 1.06 * axes.get_xlim()[1])
    axes.xaxis.set_major_locator(MaxNLocator(3))
    axes.tick_params(axis="x", labelsize=8)
    axes.grid(color="#ececec", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right", "left"]].set_visible(False)


def _draw_sizes(axes: "Axes", rows: Sequence[MethodRow]) -> None:
    """Draws the mean error of each row, by its number, against the size of what is kept."""
    points = []
    for number, row in enumerate(rows, start=1):
        mean, deviation = _percent(row.errors(None))
        size = row.megabytes
        if row.method == "individual":
            axes.plot((0, size), (mean, mean), color="#000000", linewidth=0.8, linestyle=":", zorder=1)
        _draw_point(axes, size, mean, row, yerr=deviation)
        points.append(_Point(size, mean, str(number), COLOURS.get(row.method, OTHER_COLOUR)))
    axes.set(xlim=(0, 1.2 * max(point.size for point in points)), xlabel="kept on disk, MB", ylabel="mean error, %")
    axes.set_title("error against size", fontsize=10)
    axes.margins(y=0.12)
    axes.autoscale_view(scalex=False)
    _number(axes, points)
    axes.tick_params(labelsize=8)
    axes.grid(color="#ececec", linewidth=0.7)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)


def _number(axes: "Axes", points: Sequence[_Point]) -> None:
    """Writes its number beside each point; points of about one size have theirs in columns to the left and right."""
    from scipy.optimize import isotonic_regression

    (_, width), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    groups: list[list[_Point]] = []
    for point in sorted(points):
        if not groups or point.size - groups[-1][0].size > 0.15 * width:
            groups.append([])
        groups[-1].append(point)
    for group in groups:
        first, last = group[0].size, group[-1].size
        room = first > 0.12 * width
        left = [point for point in group if room and point.size < median(other.size for other in group)]
        right = [point for point in group if point not in left]
        for column, x, side in ((left, first - 0.05 * width, "right"), (right, last + 0.07 * width, "left")):
            column.sort(key=lambda point: point.error)
            steps = 0.045 * (top - bottom) * np.arange(len(column))
            # The heights nearest to the points' own that are a step apart.
            heights = isotonic_regression([point.error for point in column] - steps).x + steps if column else []
            for point, height in zip(column, heights, strict=True):
                axes.annotate(
                    point.number,
                    (point.size, point.error),
                    (x, height),
                    fontsize=8,
                    color=point.colour,
                    ha=side,
                    va="center",
                    arrowprops={"arrowstyle": "-", "color": point.colour, "linewidth": 0.6, "shrinkA": 0, "shrinkB": 3},
                )


def _percent(fractions: Sequence[float]) -> tuple[float, float]:
    """Returns mean and sample standard deviation in percent; 0 for the latter if there is one sample."""
    return 100 * fmean(fractions), 100 * stdev(fractions) if len(fractions) > 1 else 0.0


def _draw_point(
    axes: "Axes", x: float, y: float, row: MethodRow, xerr: float | None = None, yerr: float | None = None
) -> None:
    axes.errorbar(
        x,
        y,
        yerr,
        xerr,
        color=COLOURS.get(row.method, OTHER_COLOUR),
        marker=MARKERS.get(row.method, "X"),
        markersize=5,
        elinewidth=1.1,
        capsize=2.5,
        linestyle="none",
    )
