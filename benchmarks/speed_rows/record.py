"""The figures of a run of the benchmark as JSON, and the comparison with those of an earlier one."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from speed_rows.catalog import ROWS
from speed_rows.machine import machine_facts, versions

__all__ = ["TOLERATED", "Figure", "figure_of", "merge", "read", "worse", "write"]

TOLERATED = 0.15


@dataclass(frozen=True)
class Figure:
    """What was measured in one row.

    Attributes:
        median: Of the samples.
        lower: Their first quartile.
        upper: Their third quartile.
        samples: How many there are.
    """

    median: float
    lower: float
    upper: float
    samples: int


def figure_of(samples: Sequence[float]) -> Figure:
    """Returns median and quartiles of at least one sample."""
    lower, _, upper = quantiles(samples, n=4, method="inclusive") if len(samples) > 1 else [samples[0]] * 3
    return Figure(median(samples), lower, upper, len(samples))


def write(path: Path, figures: Mapping[str, Figure]) -> None:
    """Writes figures with the versions and the machine that they belong to."""
    rows = {row.name: asdict(figures[row.name]) for row in ROWS if row.name in figures}
    rows |= {name: asdict(figure) for name, figure in figures.items() if name not in rows}  # peers
    content = {"format": 1, "machine": machine_facts(), "versions": versions(), "rows": rows}
    path.write_text(json.dumps(content, indent=1) + "\n")


def read(path: Path) -> dict[str, Any]:
    """Reads what :func:`write` wrote.

    Raises:
        ValueError: If there is no such file, or it is something else.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        content["figures"] = {name: Figure(**row) for name, row in content["rows"].items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} holds no figures of this benchmark ({error}): run `make bench` first") from error
    return content


def merge(path: Path, figures: Mapping[str, Figure]) -> dict[str, Figure]:
    """Returns the figures of a file with newer ones in their place; only these if the file does not exist.

    Raises:
        ValueError: If those of the file belong to another machine or other versions, so that not all are comparable.
    """
    if not path.exists():
        return dict(figures)
    before = read(path)
    if (before["machine"], before["versions"]) != (machine_facts(), versions()):
        raise ValueError(
            f"{path} was measured on another machine or with other versions: measure all rows, or name another --json"
        )
    return {**before["figures"], **figures}


def worse(before: Mapping[str, Figure], now: Mapping[str, Figure]) -> list[str]:
    """Returns a line for each row of which the median is 15 % worse than before."""
    lines = []
    for row in ROWS:
        if row.name not in before or row.name not in now:
            continue
        then, found = before[row.name].median, now[row.name].median
        # Of a difference near zero, 15 % mean nothing: of what is to be reached they do.
        scale = max(abs(then), row.reach or 0) if row.unit else abs(then)
        change = (then - found) if row.higher_is_better else (found - then)
        if change > TOLERATED * scale:
            lines.append(f"{row.name}: {found:.3f} {row.unit}, and {then:.3f} is written")
    return lines
