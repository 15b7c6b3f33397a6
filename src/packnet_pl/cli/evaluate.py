"""``packnet-eval``: asks the packed file of a run again, in a process of its own."""

import argparse
import sys
from functools import partial
from pathlib import Path

from omegaconf import OmegaConf

from packnet_pl.cli.errors import answering_errors
from packnet_pl.cli.prepare import checked
from packnet_pl.cli.schema import UsageError

__all__ = ["main"]

PROGRAM = "packnet-eval"


def main() -> None:
    """Runs the command line; exit code 1 means that the file does not agree with ``results.json``."""
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Recomputes every task's test accuracy and probe logits from RUN_DIR/packed.safetensors "
        "and holds them against RUN_DIR/results.json.",
    )
    parser.add_argument("run_dir", metavar="RUN_DIR", type=Path, help="directory that packnet-train printed at its end")
    with answering_errors(PROGRAM):
        agrees = evaluate(parser.parse_args().run_dir)
    sys.exit(0 if agrees else 1)


def evaluate(folder: Path) -> bool:
    """Prints one row per task.

    Args:
        folder: The run directory.

    Returns:
        Whether every accuracy and every probe is as ``results.json`` says.

    Raises:
        UsageError: If ``folder`` holds no run, or one of its files is damaged.
    """
    needed = [folder / "results.json", folder / "packed.safetensors", folder / ".hydra" / "config.yaml"]
    for path in needed:
        if not path.is_file():
            raise UsageError(f"{folder} is not a run directory with a finished task: there is no {path}")

    import torch
    from rich.console import Console
    from rich.table import Table

    from packnet_pl.cli.build import build_data
    from packnet_pl.data import TaskDataModule
    from packnet_pl.packed import load_packed
    from packnet_pl.report import TABLE_WIDTH
    from packnet_pl.run.plan import task_folder
    from packnet_pl.run.probe import load_probe, same_bits
    from packnet_pl.run.results import read_results
    from packnet_pl.run.scores import measure

    try:
        results = read_results(needed[0])
        network = load_packed(needed[1])
        probes = {task: load_probe(task_folder(folder, task) / "probe.safetensors") for task in network.tasks}
    except (ValueError, FileNotFoundError) as error:
        raise UsageError(str(error)) from error
    config = checked(OmegaConf.load(needed[2]))  # type: ignore[arg-type]
    data = build_data(config)
    table = Table(title=f"{folder}: packed file against results.json")
    table.add_column("task")
    for heading in ("error in results, %", "error now, %", "logits in results", "logits now", "agrees"):
        table.add_column(heading, justify="right")
    agrees = True
    for index, task in enumerate(results["tasks"]):
        name = task["name"]
        loader = TaskDataModule(data[name], key=(), batch_size=config.optim.batch_size).test_dataloader()
        answer = partial(network, task=name)
        now = measure(answer, loader, task["num_classes"]).top1
        pictures, before = probes[name]
        with torch.no_grad():
            unchanged = same_bits(answer(pictures), before)
        recorded, recorded_unchanged = results["accuracy"][-1][index], results["outputs_unchanged"][index]
        same = now == recorded and unchanged == recorded_unchanged
        agrees = agrees and same
        table.add_row(
            name,
            f"{100 * (1 - recorded):.2f}",
            f"{100 * (1 - now):.2f}",
            _said(recorded_unchanged),
            _said(unchanged),
            "yes" if same else "NO",
        )
    Console(width=None if sys.stdout.isatty() else TABLE_WIDTH).print(table)
    return agrees


def _said(unchanged: bool) -> str:
    return "unchanged" if unchanged else "changed"


if __name__ == "__main__":
    main()
