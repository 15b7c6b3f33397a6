"""How figures look, in a light and in a dark theme, and how they are written: PNG and SVG files, and images of a page.

A figure is a function from a :class:`Theme` to matplotlib's ``Figure``, with its data bound before
(``functools.partial(draw_owners, owners)``). Texts, axes and ticks get the theme's colours and sizes by themselves, as
the function is called, and its figure drawn, under the theme's settings.
"""

import base64
import io
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

from packnet_pl.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "DARK",
    "DPI",
    "HATCHES",
    "LIGHT",
    "MARKERS",
    "Draw",
    "Theme",
    "Themed",
    "shortened",
    "themed_images",
    "write_figure",
]

DPI = 150
"""Dots per inch of PNG files, and of the images inside SVG files."""

# Okabe and Ito's colours (2008), which the colour-blind can tell apart; neighbours differ in lightness too.
OKABE_ITO = ("#0072b2", "#e69f00", "#009e73", "#56b4e9", "#d55e00", "#cc79a7", "#f0e442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
"""Of lines and points beside their colours, in the order of tasks; it begins again after the last."""
HATCHES = ("", "///", "...", "\\\\\\", "xxx", "|||", "ooo", "---")
"""Of areas, where neighbours must differ in grey print too; it begins again after the last."""


@dataclass(frozen=True)
class Theme:
    """Colours for one background; all as ``#rrggbb``.

    Attributes:
        name: "light" or "dark".
        page: What is behind a figure; figures of a page are transparent themselves.
        foreground: Texts and the most important line.
        muted: Axes, ticks, and what should step back.
        grid: Lines of a grid.
        free: Weights that nobody owns.
        pruned: Weights that were pruned, and are zero.
        sequential: Name of matplotlib's perceptual map for numbers; its first colour is nearest to ``page``.
    """

    name: str
    page: str
    foreground: str
    muted: str
    grid: str
    free: str
    pruned: str
    sequential: str

    def task_colours(self, count: int) -> list[str]:
        """Returns one colour per task: up to eight that the colour-blind can tell apart, more from a perceptual map.

        Args:
            count: Number of tasks, from 0.
        """
        if count <= len(OKABE_ITO) + 1:
            return [*OKABE_ITO, self.ink_on(self.page)][:count]
        from matplotlib import colormaps
        from matplotlib.colors import to_hex

        lowest, highest = (0.0, 0.93) if self.name == "light" else (0.15, 1.0)
        step = (highest - lowest) / (count - 1)
        return [to_hex(colormaps["viridis"](lowest + step * number)) for number in range(count)]

    def ink_on(self, colour: str) -> str:
        """Returns black or white, whichever has more contrast on ``colour``, any of matplotlib's."""
        from matplotlib.colors import to_rgb

        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour)]
        luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        return "#000000" if (luminance + 0.05) ** 2 > 1.05 * 0.05 else "#ffffff"

    def clean(self, axes: "Axes", grid: Literal["x", "y", "both"] | None = "y") -> None:
        """Leaves ``axes`` its left and lower line, and a grid behind what is drawn.

        Args:
            axes: Of a figure.
            grid: "x", "y", "both", or None for no grid.
        """
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_axisbelow(True)
        if grid is not None:
            axes.grid(axis=grid)

    @contextmanager
    def _applied(self) -> Iterator[None]:
        """Makes the theme matplotlib's settings inside; they are what they were afterwards."""
        from matplotlib import rc_context

        with rc_context(
            {
                "font.size": 10,
                "axes.titlesize": 11,
                "axes.titleweight": "bold",
                "axes.titlelocation": "left",
                "axes.labelsize": 10,
                "figure.titlesize": 12,
                "figure.titleweight": "bold",
                "xtick.labelsize": 9,
                "ytick.labelsize": 9,
                "legend.fontsize": 9,
                "legend.frameon": False,
                "text.color": self.foreground,
                "axes.titlecolor": self.foreground,
                "axes.labelcolor": self.foreground,
                "axes.edgecolor": self.muted,
                "axes.facecolor": "none",
                "xtick.color": self.muted,
                "ytick.color": self.muted,
                "xtick.labelcolor": self.foreground,
                "ytick.labelcolor": self.foreground,
                "grid.color": self.grid,
                "grid.linewidth": 0.8,
                "lines.linewidth": 1.8,
                "lines.markersize": 5,
                "hatch.linewidth": 0.6,
                "savefig.dpi": DPI,
                # Names with a dollar are names.
                "text.parse_math": False,
                # The same figure makes the same bytes.
                "svg.hashsalt": "packnet",
            }
        ):
            yield


LIGHT = Theme("light", "#ffffff", "#1a1a1a", "#6b6b6b", "#e6e6e6", "#e2e2e2", "#ffffff", "YlGnBu")
DARK = Theme("dark", "#16181c", "#ececec", "#a0a4ab", "#33373e", "#3d4149", "#16181c", "viridis")

Draw = Callable[[Theme], "Figure"]
"""A figure whose data are bound: from a theme to what matplotlib draws."""


class Themed(NamedTuple):
    """One figure as two images of a page, each a ``data:`` address; their backgrounds are transparent.

    Attributes:
        light: For a light page, and for print.
        dark: For a dark page.
        width: In CSS pixels.
        height: In CSS pixels.
    """

    light: str
    dark: str
    width: int
    height: int


def shortened(name: str, most: int = 24) -> str:
    """Returns ``name``, or its beginning and its end where it has more than ``most`` characters: figures have no room.

    Args:
        name: Of a task, class or layer; it may be any text.
        most: Characters of what is returned, at least 5.
    """
    if len(name) <= most:
        return name
    end = (most - 1) // 3
    return f"{name[: most - 1 - end]}…{name[-end:]}"


def write_figure(draw: Draw, stem: str | os.PathLike[str]) -> list[Path]:
    """Writes the figure in the light theme as PNG and SVG, each replaced as a whole; equal figures make equal bytes.

    Args:
        draw: The figure.
        stem: Path of the files without their ending.

    Returns:
        The two paths, PNG first.
    """
    paths = [Path(f"{os.fspath(stem)}.{kind}") for kind in ("png", "svg")]
    with LIGHT._applied():
        figure = draw(LIGHT)
        for path in paths:
            with replacing(path) as temporary:
                temporary.write_bytes(_saved(figure, path.suffix[1:], LIGHT.page))
    return paths


def themed_images(draw: Draw) -> Themed:
    """Returns the figure as SVG for a page, drawn once in each theme.

    Args:
        draw: The figure.
    """
    addresses = []
    for theme in (LIGHT, DARK):
        with theme._applied():
            figure = draw(theme)
            encoded = base64.b64encode(_saved(figure, "svg", "none")).decode("ascii")
        addresses.append(f"data:image/svg+xml;base64,{encoded}")
        width, height = (round(96 * inches) for inches in figure.get_size_inches())
    return Themed(addresses[0], addresses[1], width, height)


def _saved(figure: "Figure", kind: str, background: str) -> bytes:
    """Returns the file of ``figure``, without the time at which it was made."""
    metadata = {"Date": None} if kind == "svg" else {"Software": None}
    with io.BytesIO() as file, warnings.catch_warnings():
        # Letters that the font lacks are boxes; what is said of that, for each letter, buries what a run says.
        warnings.filterwarnings("ignore", r"Glyph \d+ .* missing from font", UserWarning)
        figure.savefig(file, format=kind, facecolor=background, metadata=metadata)
        return file.getvalue()
