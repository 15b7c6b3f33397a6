"""``packnet-report``: tables and figures of runs and sweeps."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from packnet_pl.command_line import CommandParser
from packnet_pl.counting import counted
from packnet_pl.errors import UsageError, answering_errors
from packnet_pl.names import shown

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from packnet_pl.report import MethodComparison, RatioRow

__all__ = ["main", "report"]

PROGRAM = "packnet-report"


def main() -> None:
    """Runs the command line."""
    parser = CommandParser(
        prog=PROGRAM,
        description="Sets methods side by side: the error of each task, the gap to individual networks, forgetting, "
        "and what is kept; and shows the error against the prune ratio where runs differ in it. Mean and spread over "
        "seeds, as table, Markdown, CSV and figure. Runs that are not finished are left out, and counted.",
    )
    parser.add_argument("folders", metavar="RUN", type=Path, nargs="+", help="run directories, or folders of them")
    parser.add_argument("--output", metavar="DIR", type=Path, help="where to write; default: report/ in the first RUN")
    parser.add_argument(
        "--split",
        choices=("test", "val"),
        default="test",
        help="val: errors on the validation splits, to choose by them",
    )
    with answering_errors(PROGRAM):
        arguments = parser.parse()
        report(arguments.folders, arguments.output or arguments.folders[0] / "report", arguments.split)


def report(folders: list[Path], output: Path, split: str = "test") -> None:
    """Prints the tables of each backbone and sequence, and writes them as files and figures.

    Methods or settings that differ are set side by side (``methods.md``, ``.csv``, ``.png``). The runs of one method
    and its settings are set in a table of prune ratios (``ratios.csv``, ``.png``), if there is nothing else to compare
    or their ratios differ.

    Args:
        folders: Run directories, or folders of them.
        output: Where to write.
        split: "test", or "val" for the errors on the validation splits, in files of other names (``methods-val.md``).

    Raises:
        UsageError: If a folder holds no run, no run is finished, a file is damaged, or a run has no error on ``split``.
    """
    from packnet_pl.console import output_console
    from packnet_pl.report import (
        compare_methods,
        find_runs,
        is_comparison,
        ratio_tables,
        remarks,
        sequences,
    )

    try:
        runs, unfinished = find_runs(folders, split)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if not runs:
        raise UsageError(
            f"of {counted(len(unfinished), 'run')} none is finished; go on with packnet-resume {unfinished[0]}"
        )
    console = output_console()
    groups = sequences(runs)
    compared = [compare_methods(group) for group in groups if is_comparison(group)]
    swept = [rows for group in groups for rows in ratio_tables(group)]
    ending = "" if split == "test" else f"-{split}"
    written = _write_comparisons(console, compared, output, f"methods{ending}")
    written += _write_ratios(console, swept, output, f"ratios{ending}")
    for remark in [remark for group in groups if not is_comparison(group) for remark in remarks(group)]:
        console.print(remark, markup=False, highlight=False)
    if unfinished:
        named = ", ".join(map(shown, unfinished))
        console.print(f"not finished, of {counted(len(runs) + len(unfinished), 'run')}: {named}")
    console.print(f"written: {', '.join(map(shown, written))}", highlight=False, soft_wrap=True)


def _write_comparisons(console: "Console", compared: list["MethodComparison"], output: Path, stem: str) -> list[Path]:
    from packnet_pl.report import (
        draw_methods,
        method_points,
        method_table,
        write_figure,
        write_methods_csv,
        write_methods_markdown,
    )

    written: list[Path] = []
    for number, comparison in enumerate(compared, start=1):
        _print(console, method_table(comparison), method_table(comparison, stacked=True))
        for note in comparison.notes:
            console.print(note, markup=False, highlight=False)
        name = f"{stem}-{number}" if len(compared) > 1 else stem
        for kind, write in {"md": write_methods_markdown, "csv": write_methods_csv}.items():
            written.append(output / f"{name}.{kind}")
            write(comparison, written[-1])
        drawn = partial(draw_methods, method_points(comparison), comparison.heading)
        written += write_figure(drawn, output / name)
    return written


def _write_ratios(console: "Console", swept: list[list["RatioRow"]], output: Path, stem: str) -> list[Path]:
    from packnet_pl.report import draw_ratios, ratio_points, ratio_table, write_figure, write_ratios_csv

    if not swept:
        return []
    written = [output / f"{stem}.csv"]
    write_ratios_csv([row for rows in swept for row in rows], written[0])
    for number, rows in enumerate(swept, start=1):
        _print(console, ratio_table(rows), ratio_table(rows, stacked=True))
        drawn = partial(draw_ratios, ratio_points(rows), rows[0].heading)
        written += write_figure(drawn, output / (f"{stem}-{number}" if len(swept) > 1 else stem))
    return written


def _print(console: "Console", table: "Table", narrow: "Table") -> None:
    """Prints ``table``, or ``narrow`` where a screen has no room for it; a file is as wide as it has to be."""
    from rich.console import Console
    from rich.measure import Measurement

    needed = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
    if needed <= console.width:
        console.print(table)
    elif sys.stdout.isatty():
        console.print(narrow)
    else:
        Console(width=needed).print(table)


if __name__ == "__main__":
    main()
