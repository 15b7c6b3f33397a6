"""``packnet-eval``: evaluates the packed file of a run again, in a process of its own, against its results."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from omegaconf import OmegaConf

from packnet_pl.command_line import CommandParser
from packnet_pl.console import output_console
from packnet_pl.errors import UsageError, answering_errors
from packnet_pl.results import Results, read_results
from packnet_pl.run_directory import packed_path, probe_path, read_run, results_path, run_path

if TYPE_CHECKING:
    from torch import Tensor

    from packnet_pl.data import TaskData
    from packnet_pl.packed import PackedNetwork

__all__ = ["main"]

PROGRAM = "packnet-eval"


def main() -> None:
    """Runs the command line.

    Exit code 1 means that the file does not agree with ``results.json``, or that nothing could be compared.
    """
    parser = CommandParser(
        prog=PROGRAM,
        description="Recomputes every task's test accuracy and probe logits from RUN_DIR/packed.safetensors "
        "and holds them against RUN_DIR/results.json. A task whose images and probe are not here is not compared.",
    )
    parser.add_argument("run_dir", metavar="RUN_DIR", type=Path, help="directory that packnet-train printed at its end")
    with answering_errors(PROGRAM):
        agrees = evaluate(parser.parse().run_dir)
    sys.exit(0 if agrees else 1)


def evaluate(folder: Path) -> bool:
    """Prints one row per task.

    Args:
        folder: The run directory.

    Returns:
        Whether every accuracy and every probe that can be taken again is as ``results.json`` says, and there is one.

    Raises:
        UsageError: If ``folder`` holds no run, or one of its files is damaged.
    """
    for path in (results_path(folder), packed_path(folder), run_path(folder)):
        if not path.is_file():
            raise UsageError(f"{folder} is not a run directory with a finished task: there is no {path}")
    results, network, probes = _read(folder)
    saved = read_run(folder)
    assert saved is not None
    config = OmegaConf.create(saved.config)

    from rich.table import Table

    from packnet_pl.configuration.changed_data import data_differences
    from packnet_pl.configuration.components import build_data
    from packnet_pl.core.bits import same_bits

    data = build_data(config)
    for task, what in data_differences(folder, data).items():
        sys.stderr.write(f"{PROGRAM}: the data of task {task!r} are not those that it was finished with: {what}\n")
    table = Table(title=f"{folder}: packed file against results.json")
    table.add_column("task")
    for heading in ("error in results, %", "error now, %", "logits in results", "logits now", "agrees"):
        table.add_column(heading, justify="right")
    agrees: dict[str, bool] = {}
    for index, name in enumerate(task.name for task in results.tasks):
        recorded, recorded_unchanged = results.accuracy[-1][index], results.outputs_unchanged[index]
        split = data[name]
        # A task without data was finished elsewhere, and only its figures are here.
        now = None if split is None else _accuracy(network, name, split, config.optim.batch_size)
        unchanged = same_bits(network(probes[name][0], task=name), probes[name][1]) if name in probes else None
        if now is not None or name in probes:
            agrees[name] = now in (None, recorded) and unchanged == recorded_unchanged
        table.add_row(
            name,
            f"{100 * (1 - recorded):.2f}",
            "-" if now is None else f"{100 * (1 - now):.2f}",
            _in_words(recorded_unchanged),
            _in_words(unchanged),
            {True: "yes", False: "NO", None: "not compared"}[agrees.get(name)],
        )
    output_console().print(table)
    left_out = [name for name in network.tasks if name not in agrees]
    if left_out:
        reason = "neither their images nor their probes are here"
        sys.stderr.write(f"{PROGRAM}: not compared: {', '.join(left_out)} ({reason})\n")
    return bool(agrees) and all(agrees.values())


def _read(folder: Path) -> "tuple[Results, PackedNetwork, dict[str, tuple[Tensor, Tensor]]]":
    """Returns the content of ``results.json``, the packed network, and task -> its probe where one was taken."""
    from packnet_pl.packed import load_packed
    from packnet_pl.run.probe import load_probe

    try:
        results = read_results(folder)
        network = load_packed(packed_path(folder))
        taken = zip(results.tasks, results.outputs_unchanged, strict=True)
        names = [task.name for task, unchanged in taken if unchanged is not None]
        return results, network, {name: load_probe(probe_path(folder, name)) for name in names}
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from error


def _accuracy(network: "PackedNetwork", task: str, data: "TaskData", batch_size: int) -> float:
    """Returns the top-1 accuracy on the test split, in [0, 1]."""
    from packnet_pl.run.metrics import measure
    from packnet_pl.training import TaskDataModule

    loader = TaskDataModule(data, key=(), batch_size=batch_size).test_dataloader()
    return measure(partial(network, task=task), loader, network.info(task).num_classes).top1


def _in_words(unchanged: bool | None) -> str:
    return {True: "unchanged", False: "changed", None: "-"}[unchanged]


if __name__ == "__main__":
    main()
