"""Draws the images of methods and of ratios in docs/images/: python docs/figures/results.py.

The figures are those of packnet-report; their numbers are those of the tables in REPRODUCIBILITY.md.
"""

import re
from functools import partial
from pathlib import Path

from packnet_pl.report import MethodPoints, RatioPoints, Spread, draw_methods, draw_ratios
from packnet_pl.report.style import Draw, write_figure

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
METHODS = {
    "individual": "individual",
    "classifier": "classifier_only",
    "fine-tuning": "finetune",
    "LwF": "lwf",
    "LwF,": "lwf",
    "joint": "joint",
    "PackNet": "packnet",
}


def main() -> None:
    """Reads the tables, and writes the three images."""
    page = (ROOT / "REPRODUCIBILITY.md").read_text(encoding="utf-8")
    title = "Test error at the end of the sequence on vgg_small"
    beyond = page[page.index("## Beyond the paper") :]
    for name, first, part in (
        ("methods", "latin | greek", page),
        ("methods-far", "latin | digits", page),
        ("beyond", "latin | greek", beyond),
        ("beyond-far", "latin | digits", beyond),
    ):
        _write(partial(draw_methods, _methods(_table(part, f"| method | {first}")), title), name)
    _write(
        partial(draw_ratios, _ratios(_table(page, "| ratio of every task |")), "PackNet on vgg_small, test split"),
        "ratios",
    )


def _write(draw: Draw, name: str) -> None:
    _, svg = write_figure(draw, IMAGES / name)
    svg.unlink()


def _table(page: str, beginning: str) -> list[dict[str, str]]:
    """Returns the rows of the table whose first line begins so: heading -> cell."""
    lines = page[page.index(beginning) :].split("\n\n", 1)[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(cells[0], row, strict=True)) for row in cells[2:]]


def _methods(rows: list[dict[str, str]]) -> list[MethodPoints]:
    tasks = list(rows[0])[1 : list(rows[0]).index("mean")]
    return [
        MethodPoints(
            row["method"],
            METHODS[row["method"].split()[0]],
            {task: _spread(row[task]) for task in tasks},
            _spread(row["mean"]),
            float(row["MB"]),
        )
        for row in rows
    ]


def _ratios(rows: list[dict[str, str]]) -> list[RatioPoints]:
    tasks = list(rows[0])[1 : list(rows[0]).index("mean")]
    return [
        RatioPoints(
            float(row["ratio of every task"]),
            {task: _spread(row[task]) for task in tasks},
            _spread(row["mean"]),
            float(row["free after four tasks"].removesuffix("%")),
        )
        for row in rows
    ]


def _spread(cell: str) -> Spread:
    mean, deviation = re.split(r"\s*±\s*", cell)
    return Spread(float(mean), float(deviation))


if __name__ == "__main__":
    main()
