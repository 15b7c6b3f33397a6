"""The page of a sweep or of several runs: methods side by side, prune ratios, and where each run is."""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from urllib.parse import quote

from packnet_pl.counting import counted
from packnet_pl.names import shown
from packnet_pl.report.kinds import is_comparison, remarks, sequences
from packnet_pl.report.page import PAGE_NAME, Block, Figure, Link, Page, Section, Table, Text
from packnet_pl.report.ratios import RatioRow, ratio_tables
from packnet_pl.report.ratios_figure import draw_ratios, ratio_points
from packnet_pl.report.ratios_text import ratio_cells, ratio_headings
from packnet_pl.report.run_page import comparison_blocks, footer
from packnet_pl.report.runs import Run
from packnet_pl.report.style import Draw
from packnet_pl.report.table import percent

__all__ = ["comparison_page", "numbered", "ratio_figure"]


def comparison_page(runs: Sequence[Run], unfinished: Sequence[Path], path: Path, ending: str) -> Page:
    """Returns the page of ``runs``.

    Args:
        runs: Finished, at least one.
        unfinished: Folders of those that are not.
        path: Where the page will be; links are relative to it.
        ending: Of the names of figures, behind "methods" and "ratios".
    """
    groups = sequences(runs)
    compared = [group for group in groups if is_comparison(group)]
    swept = [rows for group in groups for rows in ratio_tables(group)]
    sections = []
    for index, group in enumerate(compared):
        name = numbered(f"methods{ending}", index, len(compared))
        title = "Methods side by side" if len(compared) == 1 else f"Methods on {', '.join(group[0].tasks)}"
        sections.append(Section(name, title, comparison_blocks(group, name)))
    for index, rows in enumerate(swept):
        name = numbered(f"ratios{ending}", index, len(swept))
        title = "The prune ratio" if len(swept) == 1 else f"The prune ratio: {rows[0].name}"
        sections.append(Section(name, title, _ratio_blocks(rows, name)))
    sections.append(_runs_section(runs, path))
    left_out = ", ".join(map(shown, unfinished))
    return Page(
        title="PackNet report: runs compared",
        subtitle=f"{counted(len(runs), 'finished run')} of {counted(len(groups), 'sequence')} of tasks",
        notices=[f"Not finished, and left out: {left_out}."] if unfinished else [],
        facts=[],
        sections=sections,
        footer=footer({}),
    )


def numbered(stem: str, index: int, count: int) -> str:
    """Returns the name of file ``index``, from 0, of ``count`` of its kind: with a number, if there are several."""
    return f"{stem}-{index + 1}" if count > 1 else stem


def ratio_figure(rows: Sequence[RatioRow]) -> Draw:
    """Returns the figure of the rows of one method, backbone and sequence."""
    return partial(draw_ratios, ratio_points(rows), rows[0].heading)


def _ratio_blocks(rows: Sequence[RatioRow], name: str) -> list[Block]:
    points = ratio_points(rows)
    best = min(points, key=lambda point: point.mean.mean)
    return [
        Figure(
            name,
            ratio_figure(rows),
            "Points are means, bars sample standard deviations over the seeds. All axes of errors span as many points.",
            f"{rows[0].heading}, against the prune ratio of each task; the mean is lowest, {best.mean.mean:.1f} %, at "
            f"{best.ratio}.",
        ),
        Table(
            f"{rows[0].heading}, in %. Mean ± sample standard deviation over the seeds",
            ratio_headings(rows),
            [ratio_cells(row) for row in rows],
        ),
        *(Text(f"{note}.") for note in remarks([run for row in rows for run in row.runs])),
    ]


def _runs_section(runs: Sequence[Run], path: Path) -> Section:
    rows = [
        [
            _link(run.folder, path),
            run.method,
            run.arch,
            ", ".join("-" if ratio is None else f"{ratio:g}" for ratio in _short(run.ratios)),
            str(run.seed),
            percent(run.error(None)),
            percent(run.mean_forgetting),
            percent(run.free),
            f"{run.megabytes:.2f}",
        ]
        for run in runs
    ]
    headings = ["run", "method", "backbone", "prune ratio", "seed", "mean error", "forgetting", "free", "MB"]
    split = "test" if runs[0].split == "test" else "validation"
    return Section(
        "runs",
        "The runs",
        [
            Table(f"Each run; errors on the {split} splits, forgetting and free weights in %", headings, rows),
            Text(
                "packnet-report RUN, with one of these folders, makes the page of a run; those that have one are links."
            ),
        ],
    )


def _short(ratios: Sequence[float | None]) -> Sequence[float | None]:
    """Returns one ratio in place of equal ones."""
    return ratios[:1] if len(set(ratios)) == 1 else ratios


def _link(folder: Path, path: Path) -> str | Link:
    page = folder / "report" / PAGE_NAME
    if not page.is_file() or page.resolve() == path.resolve():
        return shown(folder)
    return Link(shown(folder), quote(os.fsencode(os.path.relpath(page, path.parent))))
