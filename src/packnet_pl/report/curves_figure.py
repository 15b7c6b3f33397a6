"""Draws the learning curves of all tasks one behind the other, with the moment at which each was pruned."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from packnet_pl.report.curves import Curve
from packnet_pl.report.style import Theme, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_curves"]

_MANY_TASKS = 14


def draw_curves(curves: Sequence[Curve], theme: Theme) -> "Figure":
    """Draws accuracy and loss against the epochs of the whole run.

    Args:
        curves: In the order of training, one or more.
        theme: Of the figure.
    """
    from matplotlib.figure import Figure

    tasks = list(dict.fromkeys(curve.task for curve in curves))
    colours = dict(zip(tasks, theme.task_colours(len(tasks)), strict=True))
    figure = Figure(figsize=(9.5, 5.2), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    start, prunes, before = 0, [], None
    begins: dict[str, int] = {}
    ends: dict[str, int] = {}
    for curve in curves:
        if before is not None and curve.task == before.task and curve.phase == "retrain":
            prunes.append(start)
        begins.setdefault(curve.task, start)
        epochs = [start + 1 + number for number in range(len(curve.epochs))]
        for axes, what, factor in ((upper, "accuracy", 100), (lower, "loss", 1)):
            for side in ("train", "val"):
                _draw_line(axes, epochs, curve.values[f"{side}_{what}"], factor, colours[curve.task], side == "val")
        start += len(epochs)
        ends[curve.task], before = start, curve
    for axes in (upper, lower):
        theme.clean(axes)
        for number, task in enumerate(tasks):
            if number % 2:
                axes.axvspan(begins[task] + 0.5, ends[task] + 0.5, color=theme.grid, alpha=0.45, linewidth=0, zorder=0)
        for at in prunes:
            axes.axvline(at + 0.5, color=theme.foreground, linestyle=(0, (2, 2)), linewidth=1)
    crowded = len(tasks) > 6
    for task in tasks:
        upper.text(
            *((begins[task] + ends[task] + 1) / 2, 1.02, shortened(task, 16)),
            transform=upper.get_xaxis_transform(),
            ha="left" if crowded else "center",
            va="bottom",
            rotation=35 if crowded else 0,
            rotation_mode="anchor",
            fontsize=9 if len(tasks) <= _MANY_TASKS else 6,
            clip_on=False,
        )
    upper.set(ylabel="accuracy, %", ylim=(None, 101))
    lower.set(ylabel="loss (cross-entropy)", xlabel="epochs of the whole run", xlim=(0.5, start + 0.5), ylim=(0, None))
    _legend(figure, theme, pruned=bool(prunes))
    return figure


def _draw_line(
    axes: "Axes", epochs: Sequence[int], values: Sequence[float | None], factor: int, colour: str, is_val: bool
) -> None:
    points = [(epoch, factor * value) for epoch, value in zip(epochs, values, strict=True) if value is not None]
    if points:
        marker = "o" if len(points) == 1 else ""
        axes.plot(
            *zip(*points, strict=True),
            color=colour,
            linestyle="-" if is_val else (0, (4, 1.5)),
            linewidth=2.0 if is_val else 1.1,
            marker=marker,
            fillstyle="full" if is_val else "none",  # one epoch has no line to tell them by
        )


def _legend(figure: "Figure", theme: Theme, *, pruned: bool) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], color=theme.foreground, linewidth=2.0, label="validation"),
        Line2D([], [], color=theme.foreground, linewidth=1.1, linestyle=(0, (4, 1.5)), label="training"),
    ]
    if pruned:
        dotted = Line2D(
            [], [], color=theme.foreground, linewidth=1, linestyle=(0, (2, 2)), label="pruned, then retrained"
        )
        handles.append(dotted)
    figure.legend(handles=handles, loc="outside lower center", ncols=3)
