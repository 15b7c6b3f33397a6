"""Draws the capacity over the tasks: what each has taken, and what is still free."""

from typing import TYPE_CHECKING

from packnet_pl.report.style import Theme, shortened
from packnet_pl.shares import Share

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_capacity"]

_MANY_TASKS = 15


def draw_capacity(total: Share, theme: Theme) -> "Figure":
    """Draws a bar for the time after each task, divided into what the tasks so far own and what is free.

    A task keeps what it owns, so all of that is known from the end.

    Args:
        total: Of all layers together, of a task or more.
        theme: Of the figure.
    """
    from matplotlib.figure import Figure

    tasks = list(total.owned)
    colours = theme.task_colours(len(tasks))
    owned = [100 * total.fraction(task) for task in tasks]
    free = [100 - sum(owned[: number + 1]) for number in range(len(tasks))]
    figure = Figure(figsize=(max(4.5, min(9.0, 2.2 + 0.75 * len(tasks))), 3.8), layout="constrained")
    axes = figure.add_subplot()
    bottom = 0.0
    for number, colour in enumerate(colours):
        after = range(number, len(tasks))
        axes.bar(
            *(after, owned[number]),
            bottom=bottom,
            width=0.78,
            color=colour,
            edgecolor=theme.page,
            linewidth=0.6,
            label=shortened(tasks[number], 18),
        )
        bottom += owned[number]
    for number, part in enumerate(free):
        axes.bar(
            *(number, part),
            bottom=100 - part,
            width=0.78,
            color=theme.free,
            edgecolor=theme.page,
            linewidth=0.6,
            label="free" if number == 0 else "",
        )
        if len(tasks) <= _MANY_TASKS:
            inside = part >= 8
            axes.text(
                *(number, 100 - part / 2 if inside else 101.5, f"{part:.3g}"),
                ha="center",
                va="center" if inside else "bottom",
                fontsize=9,
                color=theme.ink_on(theme.free) if inside else theme.foreground,
            )
    names = [shortened(task, 14) for task in tasks]
    turned = len(tasks) > 6 or max(map(len, names)) > 9
    axes.set_xticks(range(len(tasks)), names, rotation=40 if turned else 0, ha="right" if turned else "center")
    axes.tick_params(axis="x", length=0, labelsize=9 if len(tasks) <= _MANY_TASKS else 6)
    axes.set(ylim=(0, 109), yticks=range(0, 101, 25), ylabel="share of all prunable weights, %", xlabel="after task")
    axes.set_title("Weights that tasks own, and free ones")
    theme.clean(axes, None)
    if len(tasks) <= _MANY_TASKS:
        ncols = min(len(tasks) + 1, 5 if len(tasks) > 3 else 4)
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=ncols)
    return figure
