"""Prints tables as wide as the terminal, and progress; the tables of the commands that read packed files."""

import sys
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeVar

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

__all__ = ["TABLE_WIDTH", "new_table", "output_console", "print_fitting", "with_progress"]

_Item = TypeVar("_Item")

TABLE_WIDTH = 100
"""Characters in a line of a table that goes into a file or a pipe."""


def output_console(*, highlight: bool = True, quiet: bool = False) -> Console:
    """Returns what prints tables to stdout, as wide as the terminal, or :data:`TABLE_WIDTH` where there is none.

    Args:
        highlight: Whether numbers and the like are coloured on a terminal.
        quiet: Whether nothing is printed: of several processes, one prints.
    """
    return Console(width=None if sys.stdout.isatty() else TABLE_WIDTH, highlight=highlight, quiet=quiet)


def new_table(first: str, others: Sequence[str] = (), title: str | None = None) -> Table:
    """Returns a table without rows, whose columns fold what is too long for them.

    Args:
        first: Heading of the first column, on the left.
        others: Headings of the others, whose entries are on the right.
        title: Of the table.
    """
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True, title=title)
    table.add_column(first, overflow="fold")
    for heading in others:
        table.add_column(escape(heading), justify="right", overflow="fold")
    return table


def print_fitting(console: Console, table: Table, narrow: Table) -> None:
    """Prints ``table``, or ``narrow`` where a screen has no room for it; a file is as wide as it has to be.

    Args:
        console: From :func:`output_console`.
        table: What is printed where there is room.
        narrow: The same in fewer columns.
    """
    needed = Measurement.get(console, console.options.update(max_width=10_000), table).maximum
    if needed <= console.width:
        console.print(table)
    elif sys.stdout.isatty():
        console.print(narrow)
    else:
        Console(width=needed, quiet=console.quiet).print(table)


def with_progress(items: Iterable[_Item], what: str, total: int) -> Iterator[_Item]:
    """Yields ``items``; where stderr is a terminal, a bar there shows how many have been taken.

    Args:
        items: What is worked on.
        what: Is done with them, such as "predicting".
        total: Number of items.
    """
    terminal = Console(stderr=True)
    if not terminal.is_terminal:
        yield from items
        return
    from rich.progress import track

    yield from track(items, what, total, console=terminal, transient=True)
