"""The table of results that a run ends with: errors, forgetting and weights per task."""

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from packnet_pl.results import Results

__all__ = ["RESULT_HEADINGS", "percent", "result_rows", "results_table"]

RESULT_HEADINGS = (
    *("task", "classes", "error when finished", "error now", "forgetting", "weights owned", "free then"),
    "outputs unchanged",
)
# As columns of a terminal, where they are too long.
_FOLDED = (None, "error when\nfinished", "error\nnow", None, "weights\nowned", "free\nthen", "outputs\nunchanged")


def results_table(results: Results, stacked: bool = False) -> Table:
    """Returns one row per task of ``results``.

    Args:
        results: Of a run.
        stacked: Puts the figures of a task below its name, for narrow screens.
    """
    table = Table(
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        title=escape(f"{results.method} on {results.arch}, seed {results.seed} (in %)"),
    )
    first, *others = RESULT_HEADINGS
    table.add_column(first, no_wrap=not stacked, overflow="fold")
    for heading, folded in zip(others, _FOLDED, strict=True) if not stacked else [("", None)]:
        table.add_column(folded or heading, justify="right", no_wrap=True)
    for task, *figures in result_rows(results):
        if not stacked:
            table.add_row(escape(task), *figures)
            continue
        table.add_row(escape(task), "")
        for heading, figure in zip(others, figures, strict=True):
            table.add_row(f"  {heading}", figure)
    return table


def result_rows(results: Results) -> list[list[str]]:
    """Returns one row per task of ``results``, for :data:`RESULT_HEADINGS`; fractions in percent."""
    rows = []
    free: float | None = 1.0
    one_by_one = len(results.accuracy) == len(results.tasks)
    for index, task in enumerate(results.tasks):
        free = None if task.owned is None or free is None else free - task.owned
        rows.append(
            [
                task.name,
                str(task.num_classes),
                percent(1 - results.accuracy[index][index] if one_by_one else None),
                percent(1 - results.accuracy[-1][index]),
                percent(results.forgetting[index]),
                percent(task.owned),
                percent(free),
                {True: "yes", False: "NO", None: "-"}[results.outputs_unchanged[index]],
            ]
        )
    return rows


def percent(fraction: float | None) -> str:
    """Returns ``fraction`` in percent, or a dash for None."""
    return "-" if fraction is None else f"{100 * fraction:.2f}"
