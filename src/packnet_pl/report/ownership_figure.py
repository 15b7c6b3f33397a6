"""Draws the owners of weights: a bar per layer, divided among the tasks and what is free."""

import os
from collections.abc import Mapping

from packnet_pl.files import replacing
from packnet_pl.shares import Share

__all__ = ["draw_ownership"]

FREE_COLOUR = "#e4e4e4"
MANY_LAYERS = 40
"""From here on bars are thin, and only the one of all layers has numbers."""


def draw_ownership(layers: Mapping[str, Share], total: Share, path: str | os.PathLike[str]) -> None:
    """Draws one bar per layer, and one for all of them, divided into each task's share of the weights and what is free.

    Args:
        layers: Name -> share.
        total: Of all layers together.
        path: Of the PNG file.
    """
    # Half a second to import, and only figures need it.
    from matplotlib import colormaps
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = [*layers.items(), ("all layers", total)]
    tasks = list(total.owned)
    many = len(rows) > MANY_LAYERS
    figure = Figure(figsize=(9, 1.9 + (0.14 if many else 0.42) * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    apart, height = (2.0, 2.6) if many else (0.5, 0.74)  # of the last bar
    heights = [0.74] * (len(rows) - 1) + [height]
    positions = [index + (apart if name == "all layers" else 0) for index, (name, _) in enumerate(rows)]
    left = [0.0] * len(rows)
    for number, part in enumerate([*tasks, "free"]):
        widths = [100 * (share.free_fraction if part == "free" else share.fraction(part)) for _, share in rows]
        colour = FREE_COLOUR if part == "free" else colormaps["viridis"](0.12 + 0.76 * number / max(1, len(tasks) - 1))
        axes.barh(positions, widths, left=left, height=heights, color=colour, edgecolor="white", label=part)
        for position, start, width in zip(positions, left, widths, strict=True):
            if width >= 4 and (position == positions[-1] or not many):
                dark = part != "free" and number < len(tasks) / 2
                axes.text(
                    start + width / 2,
                    position,
                    f"{width:.3g}",
                    ha="center",
                    va="center",
                    fontsize=8,
                    color="white" if dark else "#222222",
                )
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.set_yticks(positions, [_label(name, share) for name, share in rows], fontsize=6 if many else 9)
    axes.set_ylim(positions[-1] + height / 2 + 0.23, -0.6)
    axes.set(xlim=(0, 100), xlabel="share of the layer's weights, %", title="Who owns which weights")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside lower center", ncols=min(6, len(tasks) + 1), frameon=False
    )
    FigureCanvasAgg(figure)
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150)


def _label(name: str, share: Share) -> str:
    return f"{name.removesuffix('.weight')}  ({share.weights:,})"
