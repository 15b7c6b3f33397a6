"""Writes error against prune ratio as a table on screen and as CSV."""

import csv
import io
import os
from collections.abc import Iterable, Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from packnet_pl.files import replacing
from packnet_pl.names import as_unicode
from packnet_pl.report.ratios import RatioRow, spread

__all__ = ["ratio_cells", "ratio_headings", "ratio_table", "write_ratios_csv"]


def ratio_headings(rows: Sequence[RatioRow]) -> list[str]:
    """Returns the headings of the table of ``rows``."""
    return ["prune ratio", *rows[0].tasks, "mean", "free", "seeds"]


def ratio_cells(row: RatioRow, stacked: bool = False) -> list[str]:
    """Returns the cells of a row, the prune ratio first; errors and free weights in percent.

    Args:
        row: Of the table.
        stacked: Puts the spread below the mean.
    """
    errors = [spread(row.errors(task), stacked) for task in [*row.tasks, None]]
    free = "-" if row.free is None else f"{100 * row.free:.2f}"
    return [str(row.ratio), *errors, free, str(len(row.runs))]


def ratio_table(rows: Sequence[RatioRow], stacked: bool = False) -> Table:
    """Returns one row per prune ratio, with mean and standard deviation over the seeds.

    Args:
        rows: Of one method, backbone and sequence.
        stacked: Puts the spread below the mean, for narrow screens.
    """
    ending = "error at the end" if rows[0].runs[0].split == "test" else "error at the end on the validation split"
    table = Table(box=SIMPLE_HEAD, pad_edge=False, title=f"{rows[0].name}: {ending}, in %")
    first, *others = ratio_headings(rows)
    table.add_column(first, no_wrap=True)
    for heading in others:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*ratio_cells(row, stacked))
    return table


def write_ratios_csv(rows: Iterable[RatioRow], path: str | os.PathLike[str]) -> None:
    """Writes one line per run and task, replacing ``path`` as a whole."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method_and_arch", "prune_ratio", "seed", "task", "error", "forgetting", "free", "folder"])
    for row in rows:
        for run in row.runs:
            for task, error in run.errors.items():
                forgetting = run.forgetting[task]
                writer.writerow(
                    [row.name, row.ratio, run.seed, task, error, forgetting, run.free, as_unicode(run.folder.name)]
                )
    with replacing(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")
