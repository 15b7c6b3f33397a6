"""What PackNet costs in a network that fully_shard divides among processes (gloo): python benchmarks/sharded.py WHAT.

    fits      a step of a Lightning fit with PackNetCallback over one without it
    steps     the share of a training step that is spent in mask_gradients_ and restore_
    calls     begin_task, prune, finish_task, verify and the others, for each weight that a process has
    memory    the most memory that a process needs, through the life of a task

Each figure is the median over rounds; --quick tries all of it on tiny networks. Networks are trained on noise.
"""

import argparse
from itertools import product
from statistics import median

from rich.console import Console
from rich.table import Table

from sharded_rows.calls import measure_calls
from sharded_rows.fit import OF_FIT, measure_fit
from sharded_rows.group import in_group
from sharded_rows.memory import measure_memory
from sharded_rows.steps import BATCH, OF_STEP, measure_steps


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("what", choices=["fits", "steps", "calls", "memory"])
    parser.add_argument("--processes", type=int, nargs="+", help="how many, one table after another; 2 (memory: 1 2 4)")
    parser.add_argument("--rounds", type=int, default=3, help="of which each figure is the median")
    parser.add_argument("--network", choices=BATCH, help="fits, steps: of this one alone")
    parser.add_argument("--batch", type=int, help="fits, steps: for each process")
    parser.add_argument("--quick", action="store_true", help="tiny networks")
    given = parser.parse_args()
    sizes = given.processes or ([1, 2, 4] if given.what == "memory" else [2])
    rounds = 1 if given.quick else given.rounds
    archs = [given.network] if given.network else ["tiny"] if given.quick else ["transformer", "resnet18"]
    batches = {arch: given.batch or BATCH[arch] for arch in archs}
    if given.what == "steps":
        _steps(sizes, rounds, 1 if given.quick else 6, batches)
    elif given.what == "fits":
        _fits(sizes, rounds, 1 if given.quick else 12, batches)
    else:
        {"calls": _calls, "memory": _memory}[given.what](sizes, rounds, given.quick)


def _steps(sizes: list[int], rounds: int, steps: int, batches: dict[str, int]) -> None:
    cases = [
        (arch, optimizer, own)
        for arch in batches
        for optimizer, own in (("momentum", True), ("momentum", False), ("adamw", True))
    ]
    for size in sizes:
        for arch, optimizer, own in cases:
            case = (arch, optimizer, steps, own, batches[arch])
            found = [in_group(size, measure_steps, *case)[0] for _ in range(rounds)]
            kept = "an optimizer for each phase" if own else "one for both phases"
            title = f"{arch}, batch {batches[arch]} for each of {size} processes, {optimizer}, {kept}: % of a step"
            _show(title, OF_STEP, _medians(found, scale=100))


def _fits(sizes: list[int], rounds: int, steps: int, batches: dict[str, int]) -> None:
    for size, (arch, batch), optimizer in product(sizes, batches.items(), ("momentum", "adamw")):
        found = [in_group(size, measure_fit, arch, optimizer, steps, batch)[0] for _ in range(rounds)]
        title = f"{arch}, batch {batch} for each of {size} processes, {optimizer}: step with PackNetCallback / without"
        _show(title, OF_FIT, _medians(found))


def _calls(sizes: list[int], rounds: int, quick: bool) -> None:
    for size in sizes:
        found = [in_group(size, measure_calls, quick)[0] for _ in range(rounds)]
        title = f"ns for each weight that one of {size} processes has, and that a single one has"
        _show(title, ("sharded", "by the clock", "whole", "by the clock"), _medians(found))


def _memory(sizes: list[int], rounds: int, quick: bool) -> None:
    del rounds  # bytes are the same each time
    for size in sizes:
        found = in_group(size, measure_memory, quick)
        weights = next(of["weights"][0] for of in found)
        title = f"{size} processes: MB beyond those of an empty one; all weights together are {weights:.0f} MB"
        rows = {
            name: [first[0], max((of[name][0] for of in found[1:]), default=0.0), first[1]]
            for name, first in found[0].items()
            if name != "weights"
        }
        _show(title, ("peak, the first", "peak, the others", "held after it, the first"), rows)


def _medians(found: list[dict[str, list[float]]], scale: float = 1) -> dict[str, list[float]]:
    columns = {name: zip(*(of[name] for of in found), strict=True) for name in found[0]}
    return {name: [scale * median(column) for column in of_row] for name, of_row in columns.items()}


def _show(title: str, columns: tuple[str, ...], rows: dict[str, list[float]]) -> None:
    table = Table("", title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="right")
    for name, cells in rows.items():
        table.add_row(name, *(f"{cell:.2f}" for cell in cells))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
