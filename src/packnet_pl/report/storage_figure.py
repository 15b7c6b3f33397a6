"""Draws what all tasks take on the disk beside one network per task."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from packnet_pl.report.style import HATCHES, Theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_storage"]


def draw_storage(dense: int, packed: int, parts: Mapping[str, int], networks: int, theme: Theme) -> "Figure":
    """Draws two bars: a network per task, and the packed file with what it is made of.

    Args:
        dense: Bytes of a network per task.
        packed: Bytes of the packed file.
        parts: Name -> bytes that add up to ``packed``; empty if they are not known.
        networks: How many tasks, and so networks, there are.
        theme: Of the figure.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 2.4), layout="constrained")
    axes = figure.add_subplot()
    colours = theme.task_colours(3)
    unit, name = (1e9, "GB") if dense >= 1e9 else (1e6, "MB")
    axes.barh(0, dense / unit, height=0.6, color=theme.muted)
    left = 0.0
    for number, (part, size) in enumerate((parts or {"packed file": packed}).items()):
        width = size / unit
        axes.barh(
            *(1, width),
            left=left,
            height=0.6,
            color=colours[number % 3],
            hatch=HATCHES[number % 3],
            edgecolor=theme.page,
            linewidth=0.6,
            label=part,
        )
        left += width
    saved = f"  ({dense / packed:.1f} times less)" if dense > 1.05 * packed > 0 else ""
    for position, size, text in ((0, dense, ""), (1, packed, saved)):
        axes.text(size / unit, position, f"  {size / unit:.3g} {name}{text}", va="center", color=theme.foreground)
    axes.set_yticks([0, 1], [f"{networks} networks, one per task", "one packed file"])
    axes.set(ylim=(1.5, -0.5), xlim=(0, 1.25 * max(dense, packed) / unit), xlabel=f"on disk, {name}")
    axes.tick_params(axis="y", length=0)
    theme.clean(axes, "x")
    if parts:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 1.28), ncols=3)
    return figure
