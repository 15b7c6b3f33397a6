"""Draws error against prune ratio: a line per task, and below it what stays free."""

import os
from collections.abc import Sequence
from statistics import fmean, stdev

from packnet_pl.files import replacing
from packnet_pl.report.ratios import RatioRow

__all__ = ["draw_ratios"]


def draw_ratios(rows: Sequence[RatioRow], path: str | os.PathLike[str]) -> None:
    """Draws the error of each task against the prune ratio, and below it what stays free.

    Args:
        rows: Of one method, backbone and sequence.
        path: Of the PNG file.
    """
    # Half a second to import, and only figures need it.
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    numbers = all(isinstance(row.ratio, float) for row in rows)
    positions = [float(row.ratio) if numbers else float(index) for index, row in enumerate(rows)]
    figure = Figure(figsize=(7.5, 6), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    lines = [*rows[0].tasks, None]
    for number, task in enumerate(lines):
        samples = [[100 * error for error in row.errors(task)] for row in rows]
        upper.errorbar(
            positions,
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
    free = [(x, 100 * row.free) for x, row in zip(positions, rows, strict=True) if row.free is not None]
    lower.plot(*zip(*free, strict=True), marker="o", markersize=4, color="#888888") if free else None
    lower.set(ylabel="free, %", xlabel="prune ratio")
    lower.set_xticks(positions, [str(row.ratio) for row in rows], rotation=0 if numbers else 30)
    for axes in (upper, lower):
        axes.set_ylim(0, 1.06 * axes.get_ylim()[1])
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(axis="y", color="#eeeeee")
    figure.legend(*upper.get_legend_handles_labels(), loc="outside right upper", frameon=False)
    FigureCanvasAgg(figure)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)
