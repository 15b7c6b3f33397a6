"""Draws docs/images/architecture.svg from docs/architecture.md: python docs/figures/architecture.py.

The page's table of layers becomes rows, each of its walks a column with a numbered dot for each step, in the row of the
layer where the step's code lies. So the figure says nothing that the page does not say.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from itertools import pairwise
from pathlib import Path

DOCS = Path(__file__).parent.parent
PAGE = DOCS / "architecture.md"
FIGURE = DOCS / "images" / "architecture.svg"

# Sizes in pixels.
MARGIN, NAMES, COLUMN, LINE, HEADER, LEGEND = 16, 236, 224, 21, 40, 34
LONGEST = 26  # characters of a label
FILLS = {"Hydra": "#fdebd0", "Lightning": "#e2ecf9", "torch": "#e4f3e4", "neither": "#f4f4f4"}
STROKES = ("#b03a2e", "#1f618d", "#6c3483", "#1e7145", "#935116")


@dataclass(frozen=True)
class Layer:
    """A row of the page's table: a folder of the package, or the modules at its top.

    Args:
        name: Of the folder.
        knows: The most that it may import: a key of ``FILLS``.
        content: What is in it.
    """

    name: str
    knows: str
    content: str


@dataclass(frozen=True)
class Step:
    """A step of a walk.

    Args:
        path: Of its module, below the package.
        name: Of its function, method or class in that module.
    """

    path: str
    name: str

    @property
    def label(self) -> str:
        """The name, without that of the class if it is long."""
        return self.name if len(self.name) <= LONGEST else self.name.rpartition(".")[2]

    @property
    def layer(self) -> str:
        """The folder of the module, or that of the modules at the top."""
        folder, slash, _ = self.path.partition("/")
        return folder if slash else "top"


def layers(page: str) -> list[Layer]:
    """Returns the rows of the table of layers, from the first to the last."""
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \| (.+?) \|$", page, flags=re.MULTILINE)
    return [Layer(*row) for row in rows]


def walks(page: str) -> dict[str, list[Step]]:
    """Returns the steps of each walk by its heading."""
    found = {}
    for section in re.split(r"^### ", page, flags=re.MULTILINE)[1:]:
        title, _, body = section.partition("\n")
        body = re.split(r"^## ", body, flags=re.MULTILINE)[0]
        steps = re.findall(r"^\d+\. `([\w/]+\.py)` `([\w.]+)`", body, flags=re.MULTILINE)
        if steps:
            found[title] = [Step(*step) for step in steps]
    return found


def draw(page: str) -> str:
    """Returns the figure of the page, as SVG."""
    rows, columns = layers(page), walks(page)
    tops, bottom = _rows_in_pixels(rows, columns)
    width, height = MARGIN + NAMES + len(columns) * COLUMN + MARGIN, bottom + LEGEND
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        f'font-family="Helvetica, Arial, sans-serif" font-size="12" role="img">',
        "<title>Layers of the package, and five walks through them</title>",
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for row, (top, low) in zip(rows, tops.values(), strict=True):
        parts += _row(row, top, low, width)
    for index, (title, steps) in enumerate(columns.items()):
        parts += _walk(title, steps, MARGIN + NAMES + index * COLUMN + 26, tops, STROKES[index % len(STROKES)])
    parts += _legend(bottom + 8)
    return "\n".join([*parts, "</svg>", ""])


def _rows_in_pixels(rows: list[Layer], columns: dict[str, list[Step]]) -> tuple[dict[str, tuple[int, int]], int]:
    """Returns the upper and lower edge of each row, as high as the steps in it need, and the lower edge of the last."""
    edges, top = {}, MARGIN + HEADER
    for row in rows:
        most = max(sum(step.layer == row.name for step in steps) for steps in columns.values())
        low = top + max(2, most) * LINE + 10
        edges[row.name] = (top, low)
        top = low + 4
    return edges, top


def _row(row: Layer, top: int, low: int, width: int) -> Iterator[str]:
    yield (
        f'<rect x="{MARGIN}" y="{top}" width="{width - 2 * MARGIN}" height="{low - top}" rx="4" '
        f'fill="{FILLS[row.knows]}"/>'
    )
    yield f'<text x="{MARGIN + 10}" y="{top + 19}" font-weight="bold" font-size="13">{row.name}</text>'
    # Up to the first colon or full stop, on two lines at most: the page has the rest.
    words, lines = re.split(r"[:.(]", row.content)[0].replace("`", "").split(), [""]
    for word in words:
        if len(lines[-1]) + len(word) > 36:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    for number, line in enumerate(lines[:2]):
        yield f'<text x="{MARGIN + 10}" y="{top + 33 + 12 * number}" font-size="10.5" fill="#555">{escape(line)}</text>'


def _walk(title: str, steps: list[Step], x: int, tops: dict[str, tuple[int, int]], colour: str) -> Iterator[str]:
    yield f'<text x="{x - 9}" y="{MARGIN + 20}" font-weight="bold" fill="{colour}">{escape(title)}</text>'
    taken = dict.fromkeys(tops, 0)
    heights = []
    for step in steps:
        heights.append(tops[step.layer][0] + 16 + taken[step.layer] * LINE)
        taken[step.layer] += 1
    for before, after in pairwise(heights):
        bulge = 0 if 0 < after - before <= 2 * LINE else 14
        yield (
            f'<path d="M{x} {before} C{x - bulge} {before}, {x - bulge} {after}, {x} {after}" '
            f'fill="none" stroke="{colour}" stroke-width="1.6"/>'
        )
    for number, (step, y) in enumerate(zip(steps, heights, strict=True), 1):
        yield f'<circle cx="{x}" cy="{y}" r="8" fill="{colour}"/>'
        yield f'<text x="{x}" y="{y + 4}" text-anchor="middle" font-size="10" fill="#fff">{number}</text>'
        yield f'<text x="{x + 13}" y="{y + 4}" font-size="11.5">{escape(step.label)}</text>'


def _legend(y: int) -> Iterator[str]:
    x = MARGIN
    for knows, fill in FILLS.items():
        text = "neither Hydra nor torch" if knows == "neither" else f"may import {knows}"
        yield f'<rect x="{x}" y="{y}" width="14" height="14" rx="3" fill="{fill}" stroke="#999" stroke-width="0.5"/>'
        yield f'<text x="{x + 20}" y="{y + 11}" font-size="11">{text}</text>'
        x += 150


if __name__ == "__main__":
    FIGURE.write_text(draw(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
