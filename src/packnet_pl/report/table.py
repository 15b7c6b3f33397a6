"""The table at the end of a run."""

from collections.abc import Mapping
from typing import Any

from rich.table import Table

__all__ = ["results_table"]


def results_table(results: Mapping[str, Any]) -> Table:
    """Returns one row per task of ``results`` (the content of ``results.json``)."""
    table = Table(title=f"{results['method']} on {results['arch']}, seed {results['seed']}")
    table.add_column("task")
    for heading in ("classes", "error when\nfinished, %", "error now, %", "forgetting", "weights\nowned, %", "outputs"):
        table.add_column(heading, justify="right")
    for index, task in enumerate(results["tasks"]):
        table.add_row(
            task["name"],
            str(task["num_classes"]),
            _percent(1 - results["accuracy"][index][index]),
            _percent(1 - results["accuracy"][-1][index]),
            f"{results['forgetting'][index]:.4g}",
            _percent(task["owned"]),
            "unchanged" if results["outputs_unchanged"][index] else "CHANGED",
        )
    if results["free"] is not None:
        table.add_section()
        table.add_row("free", "", "", "", "", _percent(results["free"]), "")
    return table


def _percent(fraction: float | None) -> str:
    return "-" if fraction is None else f"{100 * fraction:.2f}"
