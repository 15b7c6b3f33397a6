"""Draws error against prune ratio: a panel per task, their mean, and what stays free."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from packnet_pl.counting import counted
from packnet_pl.report.methods_figure import Spread, spread_of
from packnet_pl.report.ratios import RatioRow
from packnet_pl.report.style import MARKERS, Theme, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["RatioPoints", "draw_ratios", "ratio_points"]

MANY_TASKS = 10
"""With more tasks than these only their mean is drawn; the table has them all."""
COLUMNS = 3


class RatioPoints(NamedTuple):
    """What is drawn at one prune ratio.

    Attributes:
        ratio: A number for every task, or a list in words.
        errors: Task -> error at the end.
        mean: Error, mean over the tasks.
        free: Share of the weights that nobody owns, in percent, or None.
    """

    ratio: float | str
    errors: Mapping[str, Spread]
    mean: Spread
    free: float | None


def ratio_points(rows: Sequence[RatioRow]) -> list[RatioPoints]:
    """Returns what is drawn of the rows of one method, backbone and sequence."""
    return [
        RatioPoints(
            row.ratio,
            {task: spread_of(row.errors(task)) for task in row.tasks},
            spread_of(row.errors(None)),
            None if row.free is None else 100 * row.free,
        )
        for row in rows
    ]


def draw_ratios(rows: Sequence[RatioPoints], title: str, theme: Theme) -> "Figure":
    """Draws the error of each task against the prune ratio, their mean, and what stays free.

    Points are means, bars sample standard deviations over the seeds. The axes of errors begin where the errors do, and
    all span as many points, so that slopes and spreads can be compared from panel to panel.

    Args:
        rows: By rising ratio.
        title: Method, backbone and split.
        theme: Colours.
    """
    from matplotlib.figure import Figure

    tasks = list(rows[0].errors) if len(rows[0].errors) <= MANY_TASKS else []
    mean = "mean" if tasks else f"mean of {counted(len(rows[0].errors), 'task')}"
    curves = {task: [row.errors[task] for row in rows] for task in tasks} | {mean: [row.mean for row in rows]}
    count = len(curves) + 1
    columns = min(COLUMNS, count)
    lines = -(-count // columns)
    figure = Figure(figsize=(2.9 * columns, 0.5 + 2.3 * lines), layout="constrained")
    panels = figure.subplots(lines, columns, squeeze=False).flatten()
    span = 1.15 * max(_range(curve)[1] - _range(curve)[0] for curve in curves.values()) or 1.0
    colours = [*theme.task_colours(len(tasks)), theme.foreground]
    positions = _positions(rows)
    for index, (axes, (name, curve)) in enumerate(zip(panels, curves.items(), strict=False)):
        axes.errorbar(
            positions,
            [error.mean for error in curve],
            [error.deviation for error in curve],
            marker=MARKERS[index % len(MARKERS)],
            capsize=3,
            linewidth=2.4 if name == mean else 1.6,
            color=colours[index],
        )
        lowest, highest = _range(curve)
        bottom = max(0.0, (lowest + highest - span) / 2)
        axes.set(ylim=(bottom, bottom + span), ylabel="error, %")
        axes.set_title(shortened(name, 28), fontweight="bold" if name == mean else "normal")
    free = [(x, row.free) for x, row in zip(positions, rows, strict=True) if row.free is not None]
    last = panels[count - 1]
    last.bar([x for x, _ in free], [y for _, y in free], width=_bar_width(positions), color=theme.muted)
    last.set(ylim=(0, 100), ylabel="free weights, %")
    last.set_title("free at the end", fontweight="normal")
    for axes in panels[:count]:
        _finish(axes, rows, theme)
    for axes in panels[count:]:
        axes.remove()
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def _range(curve: Sequence[Spread]) -> tuple[float, float]:
    return min(error.mean - error.deviation for error in curve), max(error.mean + error.deviation for error in curve)


def _are_numbers(rows: Sequence[RatioPoints]) -> bool:
    return all(isinstance(row.ratio, float) for row in rows)


def _positions(rows: Sequence[RatioPoints]) -> list[float]:
    return [float(row.ratio) if _are_numbers(rows) else float(index) for index, row in enumerate(rows)]


def _bar_width(positions: Sequence[float]) -> float:
    """Returns a width at which neighbours stay apart."""
    apart = min((later - earlier for earlier, later in pairwise(sorted(positions)) if later > earlier), default=0.1)
    return min(0.5 * apart, 0.12 * (max(positions) - min(positions)) or apart)


def _finish(axes: "Axes", rows: Sequence[RatioPoints], theme: Theme) -> None:
    positions = _positions(rows)
    numbers = _are_numbers(rows)
    room = 0.12 * (max(positions) - min(positions)) or 0.1
    axes.set_xlim(min(positions) - room, max(positions) + room)
    axes.set_xticks(
        positions, [str(row.ratio) for row in rows], rotation=0 if numbers else 30, ha="center" if numbers else "right"
    )
    axes.set_xlabel("prune ratio")
    theme.clean(axes)
