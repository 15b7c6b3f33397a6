"""Writes the comparison of methods as a table on screen, as Markdown and as CSV."""

import csv
import io
import os
import re
from collections.abc import Sequence
from itertools import compress

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from packnet_pl.files import replacing
from packnet_pl.names import as_unicode
from packnet_pl.report.methods import MethodComparison, MethodRow
from packnet_pl.report.ratios import spread

__all__ = [
    "method_cells",
    "method_headings",
    "method_table",
    "methods_markdown",
    "write_methods_csv",
    "write_methods_markdown",
]

FIGURES = ("mean", "gap", "forgetting", "networks", "MB", "bits", "min", "seeds")
_WIDE = ("bits", "min")
COLUMNS = [
    *("arch", "sequence", "split", "row", "method", "settings", "prune_ratio", "seed", "task", "error", "forgetting"),
    *("mean_error", "gap", "mean_forgetting", "networks", "megabytes", "bits_per_weight", "seconds", "folder"),
]


def method_headings(comparison: MethodComparison) -> list[str]:
    """Returns the headings of the table of a comparison."""
    return ["method", *comparison.tasks, *FIGURES]


def method_cells(row: MethodRow, tasks: Sequence[str]) -> list[str]:
    """Returns the cells of a row behind its label: mean ± sample standard deviation over the seeds, in percent."""
    forgetting = "0" if row.forgets_nothing else _points(row.forgetting)
    # Individual networks have a gap of 0 because the gap is to them.
    gap = "0" if row.gaps and not any(row.gaps) else _points(row.gaps)
    errors = [spread(row.errors(task)) for task in [*tasks, None]]
    minutes = "-" if row.minutes is None else f"{row.minutes:.1f}"
    kept = [f"{row.networks:g}", f"{row.megabytes:.2f}", f"{row.bits:.2f}" if row.bits else "-"]
    return [*errors, gap, forgetting, *kept, minutes, str(len(row.runs))]


def method_table(comparison: MethodComparison, stacked: bool = False) -> Table:
    """Returns one row per method and settings, with mean and sample standard deviation over the seeds.

    Args:
        comparison: From :func:`compare_methods`.
        stacked: Puts the spread below the mean and leaves bits and minutes out, for narrow screens.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True, title=escape(comparison.title))
    table.add_column("method", min_width=12)
    headings = method_headings(comparison)[1:]
    shown = [not (stacked and heading in _WIDE) for heading in headings]
    for heading in compress(headings, shown):
        table.add_column(escape(heading), justify="right", no_wrap=True)
    for row in comparison.rows:
        cells = compress(method_cells(row, comparison.tasks), shown)
        table.add_row(escape(row.label), *(cell.replace(" ± ", "\n± ") if stacked else cell for cell in cells))
    return table


def methods_markdown(comparison: MethodComparison) -> str:
    """Returns the table in GitHub's Markdown, with its title above and its notes below."""
    lines = [
        method_headings(comparison),
        *([row.label, *method_cells(row, comparison.tasks)] for row in comparison.rows),
    ]
    first, *others = (f"| {' | '.join(map(_plain, line))} |" for line in lines)
    rule = "|---|" + "---:|" * (len(lines[0]) - 1)
    explained = "Mean ± sample standard deviation over the seeds; gap and forgetting in points."
    notes = "".join(f"- {_plain(note)}\n" for note in comparison.notes)
    text = f"{_capital(_plain(comparison.title))}. {explained}\n\n" + "\n".join([first, rule, *others]) + "\n"
    return f"{text}\n{notes}" if notes else text


def write_methods_markdown(comparison: MethodComparison, path: str | os.PathLike[str]) -> None:
    """Writes :func:`methods_markdown`, replacing ``path`` as a whole."""
    with replacing(path) as temporary:
        temporary.write_text(methods_markdown(comparison), encoding="utf-8")


def write_methods_csv(comparison: MethodComparison, path: str | os.PathLike[str]) -> None:
    """Writes one line per run and task, replacing ``path`` as a whole.

    Errors, forgetting and gaps are fractions as they were measured; ``mean_error``, ``gap`` and ``mean_forgetting`` are
    those of the whole run. What has no meaning is empty.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in comparison.rows:
        for run, gap in zip(row.runs, row.run_gaps, strict=True):
            settings = "; ".join(f"{name}={value}" for name, value in sorted(run.settings.items()))
            whole = [run.error(None), gap, run.mean_forgetting, run.networks, run.megabytes, run.bits, run.seconds]
            for task, error in run.errors.items():
                ratio = run.ratios[run.tasks.index(task)]
                what = [run.arch, ", ".join(run.tasks), run.split, row.label, run.method, settings, ratio, run.seed]
                writer.writerow([*what, task, error, run.forgetting[task], *whole, as_unicode(run.folder)])
    with replacing(path) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


def _points(fractions: Sequence[float]) -> str:
    return spread(fractions) if fractions else "-"


def _plain(text: str) -> str:
    """Escapes what would be Markdown; underscores within a word are none."""
    return re.sub(r"([\\|*`<])", r"\\\1", text)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]
