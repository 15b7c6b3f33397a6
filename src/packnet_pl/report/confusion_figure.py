"""Draws a confusion matrix as a heat map; of many classes the ones that are confused most."""

from typing import TYPE_CHECKING

from packnet_pl.confusion import Confusion
from packnet_pl.report.style import Theme, shortened

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["MOST_CLASSES", "draw_confusion", "shown_classes"]

MOST_CLASSES = 40
"""With more classes, only the most confused ones are drawn."""

_NUMBERED = 16


def shown_classes(confusion: Confusion, most: int = MOST_CLASSES) -> list[int]:
    """Returns the indices of the classes to draw: all, or those of the most confused pairs; in order.

    Args:
        confusion: Of a task.
        most: How many there may be.
    """
    count = len(confusion.class_names)
    if count <= most:
        return list(range(count))
    chosen: set[int] = set()
    for actual, predicted, _ in confusion.confused():
        if len(chosen | {actual, predicted}) > most:
            break
        chosen |= {actual, predicted}
    return sorted(chosen) or list(range(most))


def draw_confusion(confusion: Confusion, task: str, theme: Theme) -> "Figure":
    """Draws, in row and column, how many of a class's images are taken for which class.

    Args:
        confusion: Of a task.
        task: Its name.
        theme: Of the figure.
    """
    import numpy as np
    from matplotlib import colormaps
    from matplotlib.colors import PowerNorm
    from matplotlib.figure import Figure

    classes = shown_classes(confusion)
    places = {index: place for place, index in enumerate(classes)}
    count = len(classes)
    of_class = np.zeros(len(confusion.class_names))
    matrix = np.zeros((count, count))
    for actual, predicted, images in confusion.entries():
        of_class[actual] += images
        if actual in places and predicted in places:
            matrix[places[actual], places[predicted]] = images
    shares = 100 * matrix / np.maximum(of_class[classes], 1)[:, None]
    side = max(4.2, min(8.6, 1.8 + 0.21 * count if count > _NUMBERED else 2.0 + 0.4 * count))
    figure = Figure(figsize=(side + 1.0, side), layout="constrained")
    axes = figure.add_subplot()
    # By the square root: beside a diagonal near 100 % what is confused is small, and it is what one looks for.
    colours, norm = colormaps[theme.sequential], PowerNorm(0.5, vmin=0, vmax=100)
    image = axes.imshow(np.ma.masked_equal(shares, 0), cmap=colours, norm=norm)
    names = _labels(confusion, classes)
    size = max(5.0, min(9.0, 0.6 * 72 * (side - 1.6) / count))  # of a cell's side, in points
    turned = max(map(len, names)) * count > (40 if count <= _NUMBERED else 80)
    axes.set_xticks(range(count), names, rotation=90 if turned else 0, fontsize=size)
    axes.set_yticks(range(count), names, fontsize=size)
    axes.tick_params(length=0)
    for row, column in zip(*matrix.nonzero(), strict=True):
        if count <= _NUMBERED:
            ink = theme.ink_on(colours(norm(shares[row, column])))
            text = f"{int(matrix[row, column]):,}"
            axes.text(column, row, text, ha="center", va="center", fontsize=8, color=ink)
    axes.spines[:].set_color(theme.grid)
    total = len(confusion.class_names)
    part = "" if count == total else f", the {count} most confused of {total:,} classes"
    axes.set(xlabel="predicted class", ylabel="actual class")
    axes.set_title(f"{shortened(task)}: what is taken for what{part}", fontsize=10)
    bar = figure.colorbar(image, ax=axes, shrink=0.75, pad=0.02, ticks=[0, 1, 5, 10, 25, 50, 100])
    bar.ax.minorticks_off()
    bar.set_label("share of the class's test images, %")
    bar.outline.set_visible(False)
    return figure


def _labels(confusion: Confusion, classes: list[int]) -> list[str]:
    """Returns short names of ``classes``; with their number, from 1, where names that differ are the same in short."""
    short = [shortened(confusion.class_names[index], 18) for index in classes]
    return [
        f"{name} ({index + 1})" if short.count(name) > 1 else name for name, index in zip(short, classes, strict=True)
    ]
