"""Draws the owners of weights: a bar per layer, divided among the tasks and what is free."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from packnet_pl.report.style import HATCHES, Theme, shortened
from packnet_pl.shares import Share

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["draw_ownership"]

MANY_LAYERS = 40
"""From here on bars are thin, and only the one of all layers has numbers."""


def draw_ownership(layers: Mapping[str, Share], total: Share, theme: Theme) -> "Figure":
    """Draws one bar per layer, and one for all of them, divided into each task's share of the weights and what is free.

    Args:
        layers: Name -> share.
        total: Of all layers together.
        theme: Of the figure.
    """
    from matplotlib.figure import Figure

    rows = [*layers.items(), ("all layers", total)]
    tasks, many = list(total.owned), len(rows) > MANY_LAYERS
    colours = [*theme.task_colours(len(tasks)), theme.free]
    figure = Figure(figsize=(9, 1.9 + (0.12 if many else 0.4) * len(rows)), layout="constrained")
    axes = figure.add_subplot()
    apart, height = (2.5, 3.2) if many else (0.5, 0.78)  # of the last bar
    heights = [0.9 if many else 0.78] * (len(rows) - 1) + [height]
    positions = [index + (apart if name == "all layers" else 0) for index, (name, _) in enumerate(rows)]
    left = [0.0] * len(rows)
    for number, part in enumerate([*tasks, "free"]):
        widths = [100 * (s.free_fraction if number == len(tasks) else s.fraction(part)) for _, s in rows]
        colour = colours[number]
        axes.barh(
            *(positions, widths),
            left=left,
            height=heights,
            color=colour,
            edgecolor=theme.page,
            linewidth=0 if many else 0.8,
            hatch=HATCHES[number % len(HATCHES)] if not many and 1 < number < len(tasks) else "",
            label="free" if number == len(tasks) else shortened(part),
        )
        for position, start, width in zip(positions, left, widths, strict=True):
            if width >= 4 and (position == positions[-1] or not many):
                axes.text(
                    *(start + width / 2, position, f"{width:.3g}"),
                    ha="center",
                    va="center",
                    fontsize=8,
                    color=theme.ink_on(colour),
                    bbox={"facecolor": colour, "edgecolor": "none", "pad": 1.0},
                )
        left = [start + width for start, width in zip(left, widths, strict=True)]
    axes.set_yticks(positions, [_label(name, share) for name, share in rows], fontsize=5.5 if many else 9)
    axes.set_ylim(positions[-1] + height / 2 + 0.23, -0.6)
    axes.set(xlim=(0, 100), xlabel="share of the layer's weights, %", title="Who owns which weights")
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=min(6, len(tasks) + 1))
    return figure


def _label(name: str, share: Share) -> str:
    return f"{shortened(name.removesuffix('.weight'), 48)}  ({share.weights:,})"
