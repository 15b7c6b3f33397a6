"""The matrix of the promise: one row per test case, written to docs/promise.md from the outcomes of a run."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import pytest

from tests.support import ROOT

MATRIX = ROOT / "docs" / "promise.md"
COMMAND = "make matrix"
GROUPS = (
    "Optimizers",
    "Precision",
    "Training loop",
    "In the middle",
    "Misuse",
    "Modules",
    "Outside the shared part",
    "Norms",
    "Strategies",
    "Separate parameters per task",
    "Learned masks",
    "Growing",
    "Scores and schedules",
    "Finding the task of an image",
)
ROWS = pytest.StashKey[list["Row | None"] | None]()
STATUSES = ("holds", "refused", "noticed")

INTRODUCTION = f"""\
# What the promise was tested under

Each row is one test case of `tests/promise`; `{COMMAND}` runs them all and writes this file from their outcomes, and a
test fails when rows and cases differ. **Holds** means: tasks were trained one after the other in that setting, and
after each of them every earlier task gave, bit for bit, the answers that the live network gave before that task was
finished, from the same bits of all weights, biases, norm parameters and running statistics; while a task was retrained,
its pruned weights were exactly zero after every batch. **Refused** means that the user gets an error that says why,
before anything is changed; **noticed**, that a change from outside is found there, and the error names the parameter.
"""


@dataclass(frozen=True, order=True)
class Row:
    """One case.

    Attributes:
        place: Of the case among those collected.
        group: The table that it stands in.
        label: What is special in it.
        status: What is to be expected: one of STATUSES; in a table also "skipped: reason", or "FAILS".
    """

    place: int
    group: str
    label: str
    status: str

    def line(self) -> str:
        label, status = (text.replace("|", "/").replace("\n", " ") for text in (self.label, self.status))
        return f"| {label} | {status} |"


def row_of(item: pytest.Item, place: int) -> Row | None:
    """The row that a collected test stands for; None if it is not marked, or marked with the group None.

    The label is the case's name among the parameters (the text in brackets), after the marker's own ``label`` if it has
    one; without both it is the test's name in words.
    """
    marker = item.get_closest_marker("promise")
    if marker is None or marker.args[0] is None:
        return None
    (group,), status = marker.args, marker.kwargs.get("status", "holds")
    if group not in GROUPS or status not in STATUSES or marker.kwargs.keys() - {"status", "label"}:
        raise pytest.UsageError(f"{item.nodeid}: the marker {marker} is not promise(group, status=..., label=...)")
    # With several parameters the plain id has "-" between them, and perhaps inside them.
    case = ", ".join(item.callspec._idlist) if hasattr(item, "callspec") else None
    words = [word for word in (marker.kwargs.get("label"), case) if word]
    label = ": ".join(words) or item.name.removeprefix("test_").replace("_", " ")
    return Row(place, group, label, status)


def refuse_twins(rows: Iterable[Row]) -> None:
    """Raises ValueError if two rows of a table have the same label."""
    names = Counter((row.group, row.label) for row in rows)
    twins = [name for name, times in names.items() if times > 1]
    if twins:
        raise ValueError(f"several cases with the same label: {twins}")


def render(rows: Iterable[Row]) -> str:
    rows = sorted(rows)
    refuse_twins(rows)
    parts = [INTRODUCTION]
    for group in GROUPS:
        lines = [row.line() for row in rows if row.group == group]
        if lines:
            parts.append("\n".join([f"## {group}", "", "| case | |", "|---|---|", *lines]) + "\n")
    return "\n".join(parts)


def parse(text: str) -> list[tuple[str, str, str]]:
    """(group, label, status) of each row in a written matrix."""
    found, group = [], ""
    for line in text.splitlines():
        if line.startswith("## "):
            group = line.removeprefix("## ")
        elif line.startswith("| ") and line != "| case | |":
            label, status = line.strip("| ").rsplit(" | ", 1)
            found.append((group, label, status))
    return found
