"""``packnet-eval``: asks the packed file of a run again, in a process of its own."""

import sys
from functools import partial
from pathlib import Path

from omegaconf import OmegaConf

from packnet_pl.command_line import CommandParser
from packnet_pl.console import output_console
from packnet_pl.errors import UsageError, answering_errors
from packnet_pl.run_directory import read_run

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
        agrees = evaluate(parser.parse_words().run_dir)
    sys.exit(0 if agrees else 1)


def evaluate(folder: Path) -> bool:  # noqa: C901
    """Prints one row per task.

    Args:
        folder: The run directory.

    Returns:
        Whether every accuracy and every probe that can be taken again is as ``results.json`` says, and there is one.

    Raises:
        UsageError: If ``folder`` holds no run, or one of its files is damaged.
    """
    needed = [folder / "results.json", folder / "packed.safetensors", folder / "run.yaml"]
    for path in needed:
        if not path.is_file():
            raise UsageError(f"{folder} is not a run directory with a finished task: there is no {path}")

    from rich.table import Table

    from packnet_pl.configuration.changed_data import data_differences
    from packnet_pl.configuration.components import build_data
    from packnet_pl.core.bits import same_bits
    from packnet_pl.packed import load_packed
    from packnet_pl.run.metrics import measure
    from packnet_pl.run.probe import load_probe
    from packnet_pl.run.results import read_results
    from packnet_pl.run_directory import probe_path
    from packnet_pl.training import TaskDataModule

    try:
        results = read_results(needed[0])
        network = load_packed(needed[1])
        probes = {
            task["name"]: load_probe(probe_path(folder, task["name"]))
            for task, unchanged in zip(results["tasks"], results["outputs_unchanged"], strict=True)
            if unchanged is not None
        }
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from error
    saved = read_run(folder)
    assert saved is not None
    config = OmegaConf.create(saved.config)
    data = build_data(config)
    for task, what in data_differences(folder, data).items():
        sys.stderr.write(f"{PROGRAM}: the data of task {task!r} are not those that it was finished with: {what}\n")
    table = Table(title=f"{folder}: packed file against results.json")
    table.add_column("task")
    for heading in ("error in results, %", "error now, %", "logits in results", "logits now", "agrees"):
        table.add_column(heading, justify="right")
    agrees: dict[str, bool] = {}
    for index, task in enumerate(results["tasks"]):
        name = task["name"]
        recorded, recorded_unchanged = results["accuracy"][-1][index], results["outputs_unchanged"][index]
        answer = partial(network, task=name)
        now, unchanged, split = recorded, None, data[name]
        if split is not None:  # else it was finished elsewhere, and only its figures are here
            loader = TaskDataModule(split, key=(), batch_size=config.optim.batch_size).test_dataloader()
            now = measure(answer, loader, task["num_classes"]).top1
        if name in probes:
            images, before = probes[name]
            unchanged = same_bits(answer(images), before)
        if split is not None or name in probes:
            agrees[name] = now == recorded and unchanged == recorded_unchanged
        table.add_row(
            name,
            f"{100 * (1 - recorded):.2f}",
            f"{100 * (1 - now):.2f}" if split is not None else "-",
            _said(recorded_unchanged),
            _said(unchanged),
            {True: "yes", False: "NO", None: "not compared"}[agrees.get(name)],
        )
    output_console().print(table)
    left_out = [name for name in network.tasks if name not in agrees]
    if left_out:
        reason = "neither their images nor their probes are here"
        sys.stderr.write(f"{PROGRAM}: not compared: {', '.join(left_out)} ({reason})\n")
    return bool(agrees) and all(agrees.values())


def _said(unchanged: bool | None) -> str:
    return {True: "unchanged", False: "changed", None: "-"}[unchanged]


if __name__ == "__main__":
    main()
