"""Draws the evolution of a filter: small grids of its weights from task to task, in the colour of their owner."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from packnet_pl.filter_history import MOMENTS, FilterHistory, FilterSnapshot
from packnet_pl.report.style import Theme, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_filter", "most_divided"]

_TITLES = {"dense": "trained", "pruned": "pruned", "retrained": "retrained"}
_PER_ROW = 4
_SMALL, _LARGE = 0.92, 1.45
"""Inches of one grid, with the space behind it: of three tasks beside each other or more, and of fewer."""


def most_divided(history: FilterHistory) -> int:
    """Returns the number of the filter in which most tasks own weights at the end; the first one wins ties."""
    last = history.snapshots[-1].owners
    counts = [len({owner for row in grid for owner in row} - {0}) for grid in last]
    return counts.index(max(counts))


def draw_filter(history: FilterHistory, number: int, theme: Theme) -> "Figure":
    """Draws one filter at every moment of every task.

    Each weight is a cell in the colour of its owner, the paler the smaller it is beside the largest of all; a free one
    is empty. Where cells are large enough, they have the number of their owner.

    Args:
        history: Of the run, with at least one snapshot.
        number: Which filter, from 0.
        theme: Of the figure.
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    tasks = list(dict.fromkeys(snapshot.task for snapshot in history.snapshots))
    known = max((snapshot.tasks for snapshot in history.snapshots), key=len)
    colours = theme.task_colours(len(known))
    largest = max(abs(v) for s in history.snapshots for row in s.values[number] for v in row) or 1.0
    per_row = 3 if len(tasks) in {5, 6, 9} else min(_PER_ROW, len(tasks))
    rows = -(-len(tasks) // per_row)
    side = _SMALL if per_row > 2 else _LARGE
    per_line = max(2, min(6, 2 * per_row))
    legend = 0.2 * -(-(len(known) + 1) // per_line)  # inches
    width, height = 0.3 + per_row * (3 * side + 0.35), 0.62 + rows * (side + 0.48) + legend
    figure = Figure(figsize=(width, height))
    watched = history.filters[number]
    where = ", ".join(map(str, watched.index))
    title = f"Evolution of a filter: entry [{where}] of {shortened(watched.layer, 40)}"
    figure.suptitle(title, x=0.2 / width, ha="left", y=1 - 0.06 / height)
    for place, task in enumerate(tasks):
        row, column = divmod(place, per_row)
        top = height - 0.6 - row * (side + 0.48)
        left = 0.2 + column * (3 * side + 0.35)
        name = f"task {known.index(task) + 1}: {shortened(task, 30)}"
        figure.text(left / width, (top + 0.02) / height, name, fontsize=9, weight="bold", va="bottom")
        found = {s.moment: s for s in history.snapshots if s.task == task}
        for order, moment in enumerate(MOMENTS):
            if moment not in found:
                continue
            x = left + order * side
            axes = figure.add_axes((x / width, (top - side) / height, (side - 0.1) / width, (side - 0.1) / height))
            _draw_grid(axes, found[moment], number, colours, largest, theme)
            axes.set_xlabel(_TITLES[moment], fontsize=8, labelpad=2, color=theme.foreground)
    handles = [
        Patch(facecolor=colour, edgecolor=theme.muted, label=f"{order}: {shortened(task, 18)}")
        for order, (task, colour) in enumerate(zip(known, colours, strict=True), start=1)
    ]
    handles.append(Patch(facecolor=theme.pruned, edgecolor=theme.muted, label="free"))
    ncols = min(per_line, len(handles))
    figure.legend(handles=handles, loc="lower center", ncols=ncols, bbox_to_anchor=(0.5, 0.0), fontsize=8)
    return figure


def _draw_grid(
    axes: "Axes", snapshot: FilterSnapshot, number: int, colours: Sequence[str], largest: float, theme: Theme
) -> None:
    from matplotlib.colors import to_hex, to_rgb
    from matplotlib.patches import Rectangle

    values, owners = snapshot.values[number], snapshot.owners[number]
    rows, columns = len(values), len(values[0])
    pale = to_rgb(theme.page)
    for row in range(rows):
        for column in range(columns):
            owner, part = owners[row][column], abs(values[row][column]) / largest
            face = theme.pruned
            if owner:
                strength = 0.35 + 0.65 * min(1.0, part)
                full = to_rgb(colours[owner - 1])
                red, green, blue = (strength * c + (1 - strength) * p for c, p in zip(full, pale, strict=True))
                face = to_hex((red, green, blue))
            cell = Rectangle((column, row), 1, 1, facecolor=face, edgecolor=theme.muted, linewidth=0.6, clip_on=False)
            axes.add_patch(cell)
            if owner and max(rows, columns) <= 7:
                axes.text(
                    *(column + 0.5, row + 0.5), str(owner), ha="center", va="center", color=theme.ink_on(face),
                    fontsize=9 if max(rows, columns) <= 4 else 6,
                )  # fmt: skip
    axes.set(xlim=(0, columns), ylim=(rows, 0), xticks=[], yticks=[], aspect="equal")
    axes.spines[:].set_visible(False)
