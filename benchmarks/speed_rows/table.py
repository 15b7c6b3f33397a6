"""The figures as a table: on a terminal, and in Markdown for the page."""

from collections.abc import Mapping, Sequence

from rich.table import Table

from speed_rows.catalog import Row
from speed_rows.record import Figure

__all__ = ["markdown", "table"]


def table(rows: Sequence[Row], figures: Mapping[str, Figure], notes: Mapping[str, str]) -> Table:
    """Returns one line per row.

    Args:
        rows: In this order.
        figures: Row -> what was measured.
        notes: Row -> why it was not.
    """
    made = Table("row", "what", title="lower is better, but for images")
    for heading in ("measured", "quartiles", "to reach", "reached"):
        made.add_column(heading, justify="right")
    for row in rows:
        made.add_row(row.name, row.what, *_cells(row, figures.get(row.name), notes.get(row.name, "not run")))
    return made


def markdown(rows: Sequence[Row], figures: Mapping[str, Figure]) -> str:
    """Returns the same as a Markdown table, with the command of each row."""
    lines = [
        "| what | measured | quartiles | to reach | reached | `python benchmarks/speed.py --rows` |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = _cells(row, figures.get(row.name), "not run")
        lines.append(f"| {row.what} | {' | '.join(cells)} | `{row.name}` |")
    return "\n".join(lines)


def _cells(row: Row, figure: Figure | None, note: str) -> tuple[str, str, str, str]:
    reach = "-" if row.reach is None else f"{row.reach:g}"
    if figure is None:
        return note, "", reach, ""
    reached = "" if row.reach is None else ("yes" if row.reached(figure.median) else "no")
    quartiles = f"{_text(figure.lower)} to {_text(figure.upper)}" if figure.samples > 1 else "once"
    return f"{_text(figure.median)} {row.unit}".strip(), quartiles, reach, reached


def _text(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}" if abs(value) < 2 else f"{value:.2f}"
