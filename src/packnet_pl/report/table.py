"""The table of results that a run ends with: errors, forgetting and weights per task."""

from rich.box import SIMPLE_HEAD
from rich.table import Table

from packnet_pl.results import Results

__all__ = ["results_table"]


def results_table(results: Results) -> Table:
    """Returns one row per task of ``results``."""
    table = Table(
        box=SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
        title=f"{results.method} on {results.arch}, seed {results.seed} (in %)",
    )
    table.add_column("task", no_wrap=True)
    for heading in (
        "classes",
        "error when\nfinished",
        "error\nnow",
        "forgetting",
        "weights\nowned",
        "free\nthen",
        "outputs\nunchanged",
    ):
        table.add_column(heading, justify="right", no_wrap=True)
    free: float | None = 1.0
    one_by_one = len(results.accuracy) == len(results.tasks)
    for index, task in enumerate(results.tasks):
        free = None if task.owned is None or free is None else free - task.owned
        table.add_row(
            task.name,
            str(task.num_classes),
            _percent(1 - results.accuracy[index][index] if one_by_one else None),
            _percent(1 - results.accuracy[-1][index]),
            _percent(results.forgetting[index]),
            _percent(task.owned),
            _percent(free),
            {True: "yes", False: "NO", None: "-"}[results.outputs_unchanged[index]],
        )
    return table


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.2f}"
