"""What packing costs, as a table: python benchmarks/speed.py [--rows NAME ...] [--check] [--quick] [--peers FOLDER].

Each group of rows is measured in a process of its own, one thread, CPU time, in turns with what it is compared to; a
value is a median, with quartiles. Without options it writes benchmarks/speed.json; benchmarks/README.md has the table.
"""

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from speed_rows.catalog import Row, choose
from speed_rows.processes import MeasurementError, run_measurement
from speed_rows.record import Figure, figure_of, merge, read, worse, write
from speed_rows.table import markdown, table

JSON = Path(__file__).with_name("speed.json")


def main() -> None:
    """Measures, prints and writes, or compares."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--rows", nargs="+", default=[], metavar="NAME", help="only these; how names begin is enough")
    parser.add_argument(
        "--quick", action="store_true", help="a trial on tiny networks, a few seconds; figures mean nothing"
    )
    parser.add_argument(
        "--json", type=Path, help=f"where figures are written, or compared with ({JSON.name}); none if quick"
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a row is 15 %% worse")
    parser.add_argument(
        "--markdown", action="store_true", help="print the figures that are written as the page has them"
    )
    parser.add_argument(
        "--peers", type=Path, metavar="FOLDER", help="adapters of other implementations: measured as well"
    )
    parser.add_argument("--python", default=sys.executable, help="the interpreter that the peers are installed for")
    given = parser.parse_args()
    console = Console()
    console = console if console.is_terminal else Console(width=160)
    try:
        rows, file = choose(given.rows), given.json or (None if given.quick else JSON)
        before: Mapping[str, Figure] = read(file or JSON)["figures"] if given.check or given.markdown else {}
    except ValueError as error:
        parser.error(str(error))
    if given.markdown:
        console.print(markdown(rows, before), soft_wrap=True, markup=False, highlight=False)
        return
    begun = {} if given.check or not file or not given.rows else _before(parser, file)

    def keep(found: Mapping[str, Figure]) -> None:
        """Writes what there is after each group: a run that is interrupted has not measured in vain."""
        if file and not given.check:
            write(file, {**begun, **found})

    figures, notes = _measure(rows, given.quick, console, keep)
    console.print(table(rows, figures, notes))
    if given.check:
        lines = worse(before, figures)
        console.print("\n".join(lines) or "no row is 15 % worse than what is written")
        sys.exit(1 if lines or notes else 0)
    if given.peers:
        peers = _measure_peers(given.peers, given.python, given.quick, console)
        console.print(_beside(figures, peers))
        figures |= {f"{row} ({peer})": figure for peer, found in peers.items() for row, figure in found.items()}
        keep(figures)
    sys.exit(1 if notes else 0)


def _before(parser: argparse.ArgumentParser, file: Path) -> dict[str, Figure]:
    try:
        return merge(file, {})
    except ValueError as error:
        parser.error(str(error))


def _measure(
    rows: Sequence[Row], quick: bool, console: Console, keep: Callable[[Mapping[str, Figure]], None]
) -> tuple[dict[str, Figure], dict[str, str]]:
    """Returns row -> figure, and row -> "failed" for those that could not be measured; ``keep`` gets each group."""
    groups = list(dict.fromkeys(row.group for row in rows if row.group != "gpu"))
    wanted = {row.name for row in rows}
    found: dict[str, Figure] = {}
    notes: dict[str, str] = {}
    with _progress(console) as progress:
        bar = progress.add_task("", total=len(groups))
        for group in groups:
            try:
                samples = run_measurement(
                    "group",
                    [group, *(["quick"] if quick else [])],
                    lambda line, group=group: progress.update(bar, description=f"{group}: {line}"),  # type: ignore[misc]
                )
            except MeasurementError as error:
                console.print(f"{group} failed:\n{error}", markup=False)
                notes |= {row.name: "failed" for row in rows if row.group == group}
            else:
                found |= {name: figure_of(values) for name, values in samples.items() if name in wanted}
                keep(found)
            progress.advance(bar)
    return found, notes


def _measure_peers(folder: Path, python: str, quick: bool, console: Console) -> dict[str, dict[str, Figure]]:
    peers = {}
    with _progress(console) as progress:
        files = sorted(folder.glob("*.py"))
        bar = progress.add_task("", total=len(files))
        for file in files:
            try:
                samples = run_measurement(
                    "peer_group",
                    [str(file.absolute()), *(["quick"] if quick else [])],
                    lambda line, file=file: progress.update(bar, description=f"{file.stem}: {line}"),  # type: ignore[misc]
                    python,
                )
                peers[file.stem] = {row: figure_of(values) for row, values in samples.items()}
            except MeasurementError as error:
                console.print(f"{file} failed:\n{error}", markup=False)
            progress.advance(bar)
    return peers


def _beside(ours: Mapping[str, Figure], peers: Mapping[str, Mapping[str, Figure]]) -> Table:
    made = Table("row", "ours", *peers, title="beside other implementations; - where one refuses the network")
    for row in dict.fromkeys(row for found in peers.values() for row in found):
        cells = [found[row].median if row in found else None for found in (ours, *peers.values())]
        made.add_row(row, *("-" if cell is None else f"{cell:.2f}" for cell in cells))
    return made


def _progress(console: Console) -> Progress:
    return Progress(
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}"),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )


if __name__ == "__main__":
    main()
