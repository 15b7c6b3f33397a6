"""Draws the comparison of methods: a row per method, with its error on each task, their mean, and what is kept."""

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, stdev
from textwrap import wrap
from typing import TYPE_CHECKING, NamedTuple

from packnet_pl.counting import counted
from packnet_pl.report.methods import MethodComparison
from packnet_pl.report.style import Theme, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["MethodPoints", "Spread", "draw_methods", "method_points", "spread_of"]

# Okabe and Ito's colours, which the colour-blind can tell apart; individual networks have that of texts.
COLOURS = {
    "finetune": "#d55e00",
    "lwf": "#e69f00",
    "joint": "#cc79a7",
    "packnet": "#0072b2",
}
OTHER_COLOUR = "#009e73"
MARKERS = {"individual": "s", "classifier_only": "D", "finetune": "v", "lwf": "^", "joint": "P", "packnet": "o"}
MANY_TASKS = 10
"""With more tasks than these only their mean is drawn: a page is not wide enough, and the table has them all."""


class Spread(NamedTuple):
    """Samples of an error, or of another fraction.

    Attributes:
        mean: In percent.
        deviation: Sample standard deviation in points; 0 for one sample.
    """

    mean: float
    deviation: float


class MethodPoints(NamedTuple):
    """One row of the figure.

    Attributes:
        label: Of the row.
        method: Name of the method.
        errors: Task -> error at the end.
        mean: Error, mean over the tasks.
        megabytes: Of the file with all tasks, in 10^6 bytes.
    """

    label: str
    method: str
    errors: Mapping[str, Spread]
    mean: Spread
    megabytes: float


def spread_of(fractions: Sequence[float]) -> Spread:
    """Returns mean and sample standard deviation of ``fractions``, each in [0, 1], in percent."""
    return Spread(100 * fmean(fractions), 100 * stdev(fractions) if len(fractions) > 1 else 0.0)


def method_points(comparison: MethodComparison) -> list[MethodPoints]:
    """Returns what is drawn of a comparison, from :func:`compare_methods`."""
    return [
        MethodPoints(
            row.label,
            row.method,
            {task: spread_of(row.errors(task)) for task in comparison.tasks},
            spread_of(row.errors(None)),
            row.megabytes,
        )
        for row in comparison.rows
    ]


def draw_methods(rows: Sequence[MethodPoints], title: str, theme: Theme) -> "Figure":
    """Draws each method's error on each task and their mean, and beside them the megabytes that are kept.

    Points are means, with their number at the right; bars are sample standard deviations over the seeds. A dotted line
    is the mean of individual networks.

    Args:
        rows: From the top.
        title: What the errors are: split and backbone.
        theme: Colours.
    """
    from matplotlib.figure import Figure

    tasks = list(rows[0].errors) if len(rows[0].errors) <= MANY_TASKS else []
    labels = [shortened(row.label, 60) for row in rows]
    label_width = 0.075 * max(map(len, labels))
    figure = Figure(figsize=(label_width + 1.45 * (len(tasks) + 2) + 0.3, 1.3 + 0.29 * len(rows)), layout="constrained")
    panels = figure.subplots(1, len(tasks) + 2, squeeze=False, sharey=True)[0]
    for axes, task in zip(panels, tasks, strict=False):
        _draw_errors(axes, [(row.method, row.errors[task]) for row in rows], theme)
        axes.set_title("\n".join(_wrapped(task)), fontweight="normal", loc="left")
    _draw_errors(panels[-2], [(row.method, row.mean) for row in rows], theme)
    panels[-2].set_title("mean" if tasks else f"mean of {counted(len(rows[0].errors), 'task')}", loc="left")
    _draw_sizes(panels[-1], rows, theme)
    panels[0].set_yticks(range(len(rows)), labels)
    panels[0].set_ylim(len(rows) - 0.4, -0.6)
    figure.suptitle(title, x=0.01, ha="left")
    return figure


def _wrapped(task: str) -> list[str]:
    """Returns the lines of a panel's title: names break after spaces, hyphens and underscores, if they can."""
    lines = wrap(shortened(task, 28).replace("_", "_ "), width=14)
    return [line.replace("_ ", "_") for line in lines]


def _draw_errors(axes: "Axes", points: Iterable[tuple[str, Spread]], theme: Theme) -> None:
    """Draws one point per row, the first at the top, with its number at the right edge of the panel."""
    points = list(points)
    for height, (method, error) in enumerate(points):
        if method == "individual":
            axes.axvline(error.mean, color=theme.foreground, linewidth=0.8, linestyle=":", zorder=1)
        axes.errorbar(
            *(error.mean, height),
            xerr=error.deviation,
            color=_colour(method, theme),
            marker=MARKERS.get(method, "X"),
            elinewidth=1.1,
            capsize=2.5,
            linestyle="none",
        )
        # Numbers stand in a column of their own, beyond the largest error.
        at = axes.get_yaxis_transform()
        axes.text(1.0, height, f"{error.mean:.1f}", transform=at, ha="right", va="center", fontsize=8)
    axes.set_xlabel("error, %", fontsize=9)
    _finish(axes, max(error.mean + error.deviation for _, error in points), 1.5, theme)


def _draw_sizes(axes: "Axes", rows: Sequence[MethodPoints], theme: Theme) -> None:
    """Draws one bar per row, as long as what is kept is large."""
    for height, row in enumerate(rows):
        axes.barh(height, row.megabytes, height=0.45, color=_colour(row.method, theme))
        text = f" {row.megabytes:.2f}" if row.megabytes < 10 else f" {row.megabytes:,.0f}"
        axes.text(row.megabytes, height, text, ha="left", va="center", fontsize=8)
    axes.set_title("kept on disk", fontweight="normal", loc="left")
    axes.set_xlabel("size, MB", fontsize=9)
    _finish(axes, max(row.megabytes for row in rows), 1.4, theme)


def _finish(axes: "Axes", largest: float, room: float, theme: Theme) -> None:
    """Sets the scale from 0 to ``room`` times ``largest``; numbers stand where there are no ticks."""
    from matplotlib.ticker import MaxNLocator

    largest = largest or 1.0
    ticks = MaxNLocator(3, steps=[1, 2, 5, 10]).tick_values(0, largest)
    axes.set_xlim(0, room * largest)
    axes.set_xticks([tick for tick in ticks if 0 <= tick <= 1.05 * largest])
    theme.clean(axes, "both")
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)


def _colour(method: str, theme: Theme) -> str:
    own = {"individual": theme.foreground, "classifier_only": theme.muted}
    return own.get(method) or COLOURS.get(method, OTHER_COLOUR)
