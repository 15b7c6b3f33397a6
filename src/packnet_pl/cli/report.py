"""``packnet-report``: tables and figures of runs and sweeps."""

import argparse
import sys
from itertools import groupby
from pathlib import Path

from packnet_pl.cli.errors import answering_errors
from packnet_pl.cli.schema import UsageError

__all__ = ["main", "report"]

PROGRAM = "packnet-report"


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Shows the error of each task against the prune ratio, mean and spread over seeds, with what stays "
        "free, as a table; and writes it as CSV and figure. Runs that are not finished are left out, and counted.",
    )
    parser.add_argument("folders", metavar="DIR", type=Path, nargs="+", help="run directories, or folders of them")
    parser.add_argument("--output", metavar="DIR", type=Path, help="where to write; default: report/ in the first DIR")
    with answering_errors(PROGRAM):
        arguments = parser.parse_args()
        report(arguments.folders, arguments.output or arguments.folders[0] / "report")


def report(folders: list[Path], output: Path) -> None:
    """Prints a table per method, backbone and sequence, and writes ``ratios.csv`` and a figure for each.

    Args:
        folders: Run directories, or folders of them.
        output: Where to write.

    Raises:
        UsageError: If a folder holds no run, no run is finished, or a file is damaged.
    """
    from rich.console import Console

    from packnet_pl.report import TABLE_WIDTH, draw_ratios, find_runs, ratio_rows, ratio_table, write_ratios_csv

    try:
        runs, unfinished = find_runs(folders)
    except ValueError as error:
        raise UsageError(str(error)) from error
    if not runs:
        raise UsageError(f"none of the {len(unfinished)} runs is finished; go on with packnet-resume {unfinished[0]}")
    console = Console(width=None if sys.stdout.isatty() else TABLE_WIDTH)
    rows = ratio_rows(runs)
    write_ratios_csv(rows, output / "ratios.csv")
    written = [output / "ratios.csv"]
    tables = [list(group) for _, group in groupby(rows, key=lambda row: (row.name, tuple(row.tasks)))]
    for number, group in enumerate(tables, start=1):
        console.print(ratio_table(group))
        written.append(output / f"ratios{f'-{number}' if len(tables) > 1 else ''}.png")
        draw_ratios(group, written[-1])
    if unfinished:
        named = ", ".join(map(str, unfinished))
        console.print(f"{len(unfinished)} of {len(runs) + len(unfinished)} runs are not finished: {named}")
    console.print(f"written: {', '.join(map(str, written))}", highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()
