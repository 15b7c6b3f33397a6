"""Draws the accuracy of every task after every task as a heat map."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from packnet_pl.report.style import Theme, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_accuracy"]

_NUMBERED = 16


def draw_accuracy(tasks: Sequence[str], accuracy: Sequence[Sequence[float]], theme: Theme) -> "Figure":
    """Draws one row per fit and one column per task; what does not change down a column is not forgotten.

    Args:
        tasks: Names, in order.
        accuracy: As in ``results.json``: row i has the accuracies, in [0, 1], of the tasks so far after fit i.
        theme: Of the figure.
    """
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    count, rows = len(tasks), len(accuracy)
    matrix = np.full((rows, count), np.nan)
    for number, row in enumerate(accuracy):
        matrix[number, : len(row)] = 100 * np.array(row)
    numbered = count <= _NUMBERED
    cell = 0.72 if count <= 8 else 0.55 if numbered else 0.25
    figure = Figure(figsize=(max(4.5, 2.4 + cell * count), max(2.4, 1.6 + 0.75 * cell * rows)), layout="constrained")
    axes = figure.add_subplot()
    colours = colormaps[theme.sequential]
    lowest = float(np.floor(np.nanmin(matrix) / 10) * 10) if count else 0.0
    image = axes.imshow(matrix, cmap=colours, vmin=lowest, vmax=100, aspect="auto")
    for row, column in zip(*np.nonzero(~np.isnan(matrix)), strict=True):
        if numbered:
            ink = theme.ink_on(colours((matrix[row, column] - lowest) / max(1.0, 100 - lowest)))
            size = 9 if count <= 8 else 7
            text = f"{matrix[row, column]:.1f}"
            axes.text(column, row, text, ha="center", va="center", fontsize=size, color=ink)
    names = [shortened(task, 16) for task in tasks]
    turned = max(map(len, names)) > (4 if count > 8 else 9)
    size = 9 if numbered else 6
    axes.set_xticks(
        range(count), names, rotation=40 if turned else 0, ha="right" if turned else "center", fontsize=size
    )
    axes.set_yticks(range(rows), names if rows == count else ["all tasks"], fontsize=size)
    axes.set(xlabel="tested on", ylabel="after task", title="Accuracy on the test splits, %")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    bar = figure.colorbar(image, ax=axes, shrink=0.9, pad=0.02)
    bar.set_label("accuracy, %")
    bar.outline.set_visible(False)
    return figure
