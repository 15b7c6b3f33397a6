"""Draws the most confused pairs of classes with their images."""

import io
from typing import TYPE_CHECKING

from packnet_pl.confusion import Confusion, Example
from packnet_pl.counting import counted
from packnet_pl.report.style import Theme, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["draw_pairs"]

_PER_ROW = 2


def draw_pairs(confusion: Confusion, task: str, theme: Theme, most: int = 6) -> "Figure":
    """Draws, for each pair, images of the one class that were taken for the other, and one of the other.

    Args:
        confusion: Of a task, with one pair or more.
        task: Its name.
        theme: Of the figure.
        most: How many pairs there may be.
    """
    from matplotlib.figure import Figure

    pairs = confusion.pairs[:most]
    rows = -(-len(pairs) // _PER_ROW)
    columns = min(_PER_ROW, len(pairs))
    width, height = 4.6 * columns, 0.5 + 1.55 * rows
    figure = Figure(figsize=(width, height))
    title = f"{shortened(task)}: the most confused classes"
    figure.suptitle(title, x=0.12 / width, ha="left", y=1 - 0.08 / height)
    for number, pair in enumerate(pairs):
        row, column = divmod(number, _PER_ROW)
        left, top = 0.15 + 4.6 * column, height - 0.5 - 1.55 * row
        actual, predicted = (shortened(confusion.class_names[index], 20) for index in (pair.actual, pair.predicted))
        taken = f"{actual} taken for {predicted}, {counted(pair.images, 'time')}"
        figure.text(left / width, (top - 0.02) / height, taken, fontsize=9, va="top")
        for place, example in [*enumerate(pair.examples), (2, pair.reference)]:
            if example is None:
                continue
            x = left + 1.15 * place + (0.55 if place == 2 else 0)
            axes = figure.add_axes((x / width, (top - 1.4) / height, 1.05 / width, 1.05 / height))
            _draw_image(axes, example)
        if pair.reference is not None:
            x, y = (left + 2.58) / width, (top - 0.88) / height
            figure.text(x, y, "≠", ha="center", va="center", fontsize=14, color=theme.muted)
    return figure


def _draw_image(axes: "Axes", example: Example) -> None:
    from PIL import Image

    image = Image.open(io.BytesIO(example.png)).convert("RGB")
    axes.imshow(image, interpolation="nearest" if max(image.size) < 64 else "antialiased")
    axes.set_xticks([])
    axes.set_yticks([])
