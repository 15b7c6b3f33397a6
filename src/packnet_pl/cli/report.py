"""``packnet-report``: tables and figures of runs and sweeps."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from packnet_pl.command_line import CommandParser
from packnet_pl.counting import counted
from packnet_pl.errors import UsageError, answering_errors
from packnet_pl.names import shown
from packnet_pl.results import read_results
from packnet_pl.run_directory import read_run, results_path

if TYPE_CHECKING:
    from rich.console import Console

    from packnet_pl.report import Page, Run

__all__ = ["main", "report"]

PROGRAM = "packnet-report"


def main() -> None:
    """Runs the command line."""
    parser = CommandParser(
        prog=PROGRAM,
        description="Writes a page that opens in a browser, without a network: of one run its results, figures and "
        "settings, beside individual networks where their runs are given too; of several runs, or a sweep, the methods "
        "side by side (the error of each task, the gap to individual networks, forgetting, and what is kept), and the "
        "error against the prune ratio where runs differ in it. Mean and spread over seeds also as table, Markdown, "
        "CSV and figures. Runs that are not finished are left out of a comparison, and counted.",
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
        report(arguments.folders, arguments.output, arguments.split)


def report(folders: list[Path], output: Path | None, split: str = "test") -> None:
    """Prints the tables of each backbone and sequence, and writes them as files, figures and a page.

    Methods or settings that differ are set side by side (``methods.md``, ``.csv``, ``.png``, ``.svg``). The runs of one
    method and its settings are set in a table of prune ratios (``ratios.csv``, ``.png``, ``.svg``), if there is nothing
    else to compare or their ratios differ.

    Args:
        folders: Run directories, or folders of them.
        output: Where to write; None for ``report`` in the first folder.
        split: "test", or "val" for the errors on the validation splits, in files of other names (``methods-val.md``).

    Raises:
        UsageError: If a folder holds no run, no run is finished, a file is damaged, or a run has no error on ``split``.
    """
    from packnet_pl.console import output_console
    from packnet_pl.report import comparison_page, find_runs, is_comparison, is_run, remarks, sequences, write_page

    first = folders[0]
    place = output or first / "report"
    ending = "" if split == "test" else f"-{split}"
    with _refused():
        runs, unfinished = find_runs(folders, split)
        alone = is_run(first) and unfinished in ([], [first]) and _all_individual(runs, first)
        page = _run_page(first, runs, split) if alone else None
    if not runs and page is None:
        raise UsageError(
            f"of {counted(len(unfinished), 'run')} none is finished; go on with packnet-resume {unfinished[0]}"
        )
    console = output_console()
    written = _write_tables(console, runs, place, ending)
    if page is not None:
        written += _write_ratio_figures(runs, place / f"ratios{ending}")
    for remark in [remark for group in sequences(runs) if not is_comparison(group) for remark in remarks(group)]:
        console.print(remark, markup=False, highlight=False)
    if unfinished:
        named = ", ".join(map(shown, unfinished))
        console.print(f"not finished, of {counted(len(runs) + len(unfinished), 'run')}: {named}")
    # The page of a run stays where it is, if several runs are compared in its folder.
    name = "comparison" if page is None and output is None and is_run(first) else "index"
    path = place / f"{name}{ending}.html"
    figures = write_page(page or comparison_page(runs, unfinished, path, ending), path)
    if page is None:
        written += figures
    if written:
        console.print(f"written: {', '.join(map(shown, written))}", highlight=False, soft_wrap=True)
    if page is not None:
        count = counted(len(figures) // 2, "figure")
        console.print(f"and {count} of the page, as PNG and SVG beside it", highlight=False, soft_wrap=True)
    console.print(f"page: {shown(path)}", highlight=False, soft_wrap=True)


@contextmanager
def _refused() -> Iterator[None]:
    """Makes a UsageError of what readers say of a file or folder."""
    try:
        yield
    except ValueError as error:
        raise UsageError(str(error)) from error


def _all_individual(runs: list["Run"], but: Path) -> bool:
    """Returns whether all runs but that in one folder are of individual networks, to which it can be compared."""
    return all(run.method == "individual" for run in runs if run.folder.resolve() != but.resolve())


def _run_page(folder: Path, runs: list["Run"], split: str) -> "Page":
    """Returns the page of the run in ``folder``, beside the others."""
    from packnet_pl.report import run_page

    results = read_results(folder) if results_path(folder).is_file() else None
    mine = sorted(runs, key=lambda run: run.folder.resolve() != folder.resolve())
    return run_page(folder, results, read_run(folder), mine, split)


def _write_tables(console: "Console", runs: list["Run"], output: Path, ending: str) -> list[Path]:
    """Prints all tables and writes them as files."""
    from packnet_pl.console import print_fitting
    from packnet_pl.report import (
        compare_methods,
        is_comparison,
        method_table,
        numbered,
        ratio_table,
        ratio_tables,
        sequences,
        write_methods_csv,
        write_methods_markdown,
        write_ratios_csv,
    )

    written = []
    groups = sequences(runs)
    compared = [compare_methods(group) for group in groups if is_comparison(group)]
    for index, comparison in enumerate(compared):
        print_fitting(console, method_table(comparison), method_table(comparison, stacked=True))
        for note in comparison.notes:
            console.print(note, markup=False, highlight=False)
        for kind, write in {"md": write_methods_markdown, "csv": write_methods_csv}.items():
            written.append(output / f"{numbered(f'methods{ending}', index, len(compared))}.{kind}")
            write(comparison, written[-1])
    swept = [rows for group in groups for rows in ratio_tables(group)]
    for rows in swept:
        print_fitting(console, ratio_table(rows), ratio_table(rows, stacked=True))
    if swept:
        written.append(output / f"ratios{ending}.csv")
        write_ratios_csv([row for rows in swept for row in rows], written[-1])
    return written


def _write_ratio_figures(runs: list["Run"], stem: Path) -> list[Path]:
    """Writes what the page of one run has no room for: its one prune ratio as a figure."""
    from packnet_pl.report import ratio_figure, ratio_tables, sequences, write_figure

    swept = [rows for group in sequences(runs) for rows in ratio_tables(group)]
    return [path for rows in swept for path in write_figure(ratio_figure(rows), stem)]


if __name__ == "__main__":
    main()
