"""``packnet-export``: writes one task in a format that other programs read, or the packed file in half precision."""

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape

from packnet_pl.cli.packed_files import check_task, find_packed, load_network, open_file
from packnet_pl.command_line import CommandParser
from packnet_pl.console import new_table, output_console, with_progress
from packnet_pl.errors import UsageError, answering_errors
from packnet_pl.names import shown

if TYPE_CHECKING:
    from packnet_pl.data import TaskData
    from packnet_pl.packed import PackedNetwork, Precision

__all__ = ["main"]

PROGRAM = "packnet-export"
# Of packnet_pl.packed.export, which this would load torch for.
_ENDINGS = {"torch": ".pt", "torch_export": ".pt2", "onnx": ".onnx", "packed": ".safetensors"}
_IMAGES = 256
_CHANGES = (
    "accuracy\nbefore, %",
    "after, %",
    "change,\npoints",
    "same class,\n%",
    "largest change\nof a logit",
)


def main() -> None:
    """Runs the command line."""
    parser = CommandParser(
        prog=PROGRAM,
        description="Writes one task of a packed file as a network of its own, which is left in place only if it "
        "answers as the packed network does. With --format packed: all tasks, in another precision.",
    )
    parser.add_argument("file", metavar="RUN_DIR_OR_FILE", type=Path, help="directory of a run, or a packed file")
    parser.add_argument("--task", metavar="NAME", help="the task; not with --format packed")
    parser.add_argument("--format", required=True, choices=list(_ENDINGS), help="torch is a state dict")
    parser.add_argument("--output", metavar="PATH", type=Path, help="default: the task's name, in this folder")
    parser.add_argument("--dtype", choices=["fp32", "bf16", "fp16"], help="of owned weights, with --format packed")
    with answering_errors(PROGRAM):
        arguments = parser.parse()
        find_packed(arguments.file)
        if (arguments.format == "packed") != (arguments.dtype is not None):
            raise UsageError("--dtype and --format packed go together: --format packed --dtype bf16")
        if arguments.format == "packed" and arguments.task is not None:
            raise UsageError("--format packed writes all tasks: leave --task out")
        output = arguments.output
        if output is not None and (output.is_dir() or not output.absolute().parent.is_dir()):
            raise UsageError(f"--output is {output}; allowed is a file in a folder that is there")
        if arguments.format == "packed":
            _export_packed(arguments.file, output, arguments.dtype)
        else:
            _export_task(arguments.file, arguments.task, output, arguments.format)


def _export_task(file: Path, task: str | None, output: Path | None, format: str) -> None:
    opened = open_file(file)
    task = check_task(task, opened.tasks)
    network = load_network(opened)
    from packnet_pl.packed.export import export_task

    path = output or Path(f"{task}{_ENDINGS[format]}")
    try:
        difference = export_task(network, task, path, format)
    except ImportError as error:
        raise UsageError(
            f"--format {format} needs the package {error.name}: install packnet-pl[export], that is onnx, onnxscript "
            "and onnxruntime"
        ) from error
    except ValueError as error:
        raise UsageError(str(error)) from error
    size = path.stat().st_size
    sys.stdout.write(
        f"{shown(path)}: {size:,} bytes; logits differ by at most {difference:.2g} from the packed network's\n"
    )


def _export_packed(file: Path, output: Path | None, dtype: "Precision") -> None:
    packed = open_file(file)
    network = load_network(packed)
    from packnet_pl.packed import TaskFigures, load_packed, save_packed

    source = find_packed(file)
    path = output or Path(f"{source.stem}_{dtype}.safetensors")
    if path.exists() and path.samefile(source):
        raise UsageError(f"--output is {path}, the file itself, whose full precision would be lost: give another")
    figures = {task["name"]: TaskFigures(task["ratio"], task["accuracy"]) for task in packed.header["tasks"]}
    try:
        written = save_packed(
            network,
            path,
            dtype=dtype,
            figures=figures,
            history=packed.history,
            recipe=packed.header["recipe"],
            statistics=network.statistics,
        )
    except ValueError as error:
        raise UsageError(str(error)) from error
    sys.stdout.write(f"{shown(path)}: {written.size:,} bytes instead of {packed.size:,}\n")
    _compare(network, load_packed(path), _test_data(file))


def _test_data(file: Path) -> "dict[str, TaskData | None]":
    """Returns the data of the run's tasks; none for a packed file outside a run directory."""
    from packnet_pl.run_directory import read_run

    saved = read_run(file) if file.is_dir() else None
    if saved is None:
        return {}
    from omegaconf import OmegaConf

    from packnet_pl.configuration.components import build_data

    try:
        return build_data(OmegaConf.create(saved.config))
    except UsageError as error:
        sys.stderr.write(f"{PROGRAM}: the test splits are not here, random images are taken instead ({error})\n")
        return {}


def _compare(before: "PackedNetwork", after: "PackedNetwork", data: "dict[str, TaskData | None]") -> None:
    """Prints how the precision changes predictions: on the test splits, or without them on random images."""
    import torch

    from packnet_pl.run.metrics import measure
    from packnet_pl.training import TaskDataModule

    table = new_table("task", _CHANGES)
    for task in with_progress(before.tasks, "comparing", len(before.tasks)):
        info, split = before.info(task), data.get(task)
        figures = ["-", "-", "-"]
        if split is not None:
            module = TaskDataModule(split, key=())
            old, new = (
                measure(partial(network, task=task), module.test_dataloader(), info.num_classes).top1
                for network in (before, after)
            )
            figures = [f"{100 * old:.2f}", f"{100 * new:.2f}", f"{100 * (new - old):+.2f}"]
            images = torch.cat([batch for batch, _ in module.test_dataloader()][: -(-_IMAGES // 64)])
        elif info.input_shape:
            images = torch.randn(_IMAGES, *info.input_shape, generator=torch.Generator().manual_seed(0))
        else:
            table.add_row(escape(task), *figures, "-", "-")
            continue
        logits = [network(images, task=task).float() for network in (before, after)]
        same = (logits[0].argmax(1) == logits[1].argmax(1)).double().mean()
        largest = (logits[0] - logits[1]).abs().max()
        table.add_row(escape(task), *figures, f"{100 * float(same):.2f}", f"{float(largest):.2g}")
    output_console().print(table)


if __name__ == "__main__":
    main()
