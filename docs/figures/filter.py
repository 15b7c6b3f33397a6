"""Draws filter.png of docs/images/: python docs/figures/filter.py.

It executes the notebook "The paper in pictures" as far as the filter, which is drawn here for the page.
"""

import tempfile
from contextlib import chdir
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import nbformat

from packnet_pl.report import draw_filter, most_divided
from packnet_pl.report.style import write_figure

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "notebooks" / "5_paper_in_pictures.ipynb"


def main() -> None:
    """Trains the three tasks of the notebook, and writes the image."""
    mpl.use("agg")
    found: dict[str, Any] = {}
    cells: list[Any] = nbformat.read(NOTEBOOK, as_version=4).cells
    with tempfile.TemporaryDirectory() as empty, chdir(empty):
        for cell in cells:
            if cell.cell_type == "code" and "snapshots" not in found:
                exec(cell.source, found)
    history = found["snapshots"].history
    _, svg = write_figure(partial(draw_filter, history, most_divided(history)), ROOT / "docs" / "images" / "filter")
    svg.unlink()


if __name__ == "__main__":
    main()
