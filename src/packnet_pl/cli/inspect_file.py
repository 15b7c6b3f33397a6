"""``packnet-inspect``: shows the content of a packed file, without building its network."""

import sys
from collections.abc import Iterator
from itertools import accumulate
from math import prod
from pathlib import Path

from rich.markup import escape
from rich.table import Table

from packnet_pl.capacity import MAX_TASKS, forecast
from packnet_pl.cli.packed_files import open_file
from packnet_pl.command_line import CommandParser
from packnet_pl.console import new_table, output_console
from packnet_pl.container import PackedFile, narrow_shapes
from packnet_pl.container.header import FORMAT
from packnet_pl.counting import counted
from packnet_pl.errors import UsageError, answering_errors
from packnet_pl.text import as_line

__all__ = ["main"]

PROGRAM = "packnet-inspect"
_SHOWN = 6
_LONGEST_LINE = 500


def main() -> None:
    """Runs the command line."""
    parser = CommandParser(
        prog=PROGRAM, description="Shows the tasks of a packed file, who owns its weights, its size and its free room."
    )
    parser.add_argument("file", metavar="FILE", type=Path, help="a packed file, or the directory of a run")
    parser.add_argument(
        "--ratio", type=float, default=0.75, help="prune ratio, in [0, 1), of tasks that could follow (default: 0.75)"
    )
    with answering_errors(PROGRAM):
        arguments = parser.parse()
        if not 0 <= arguments.ratio < 1:
            raise UsageError(f"--ratio is {arguments.ratio}; allowed is a fraction in [0, 1), never percent")
        packed = open_file(arguments.file)
        try:
            packed.check_contents()
        except ValueError as error:
            raise UsageError(str(error)) from error
        console = output_console(highlight=False)
        console.print(_about(packed), soft_wrap=True)
        console.print(_tasks(packed))
        if packed.counts:
            console.print(_layers(packed))
        console.print(_sizes(packed))
        if packed.counts:
            sys.stdout.write(_usable(packed) + "\n")
            for line in _narrower(packed):
                console.print(line, soft_wrap=True)
            sys.stdout.write(_room(packed, arguments.ratio) + "\n")


def _about(packed: PackedFile) -> str:
    builder = packed.header["backbone"]
    if builder is None:
        return "backbone: not named, load_packed() has to be given one"
    text = ", ".join(f"{key}={value}" for key, value in builder["arguments"].items())
    return escape(as_line(f"backbone: {builder['name']}({text})", _LONGEST_LINE))


def _tasks(packed: PackedFile) -> Table:
    uses = _uses(packed)
    headings = (
        "classes",
        "image",
        "ratio",
        "accuracy,\n%",
        "weights",
        "owned,\n%",
        *(["earlier\nused, %"] if uses else []),
    )
    table = new_table("task", headings)
    totals = [sum(column) for column in zip(*packed.counts.values(), strict=True)]
    for number, task in enumerate(packed.header["tasks"], start=1):
        owned = totals[number] if totals else None
        table.add_row(
            escape(task["name"]),
            str(task["num_classes"]),
            " x ".join(map(str, task["input_shape"])) or "-",
            "-" if task["ratio"] is None else f"{task['ratio']:g}",
            "-" if task["accuracy"] is None else f"{100 * task['accuracy']:.2f}",
            "-" if owned is None else f"{owned:,}",
            "-" if owned is None else f"{100 * owned / max(1, sum(totals)):.2f}",
            *uses[number - 1 : number],
        )
    if totals:
        table.add_row("free", "", "", "", "", f"{totals[0]:,}", f"{100 * totals[0] / max(1, sum(totals)):.2f}")
    return table


def _uses(packed: PackedFile) -> list[str]:
    """Returns which share of earlier tasks' weights each task uses, in percent; nothing for a file without masks."""
    if packed.header["format"] != FORMAT:
        return []
    unused = [sum(column) for column in zip(*packed.unused.values(), strict=True)]
    owned = [sum(column) for column in zip(*packed.counts.values(), strict=True)][1:]
    earlier = list(accumulate(owned, initial=0))
    return [f"{100 * (1 - off / of):.2f}" if of else "-" for off, of in zip(unused, earlier, strict=False)]


def _layers(packed: PackedFile) -> Table:
    table = new_table("layer", ("weights", *packed.tasks, "free"), title="owned, %")
    for name, (free, *owned) in packed.counts.items():
        weights = max(1, free + sum(owned))
        shares = [f"{100 * count / weights:.2f}" for count in (*owned, free)]
        table.add_row(escape(name), f"{free + sum(owned):,}", *shares)
    return table


def _sizes(packed: PackedFile) -> Table:
    table = new_table("in the file", ("bytes",))
    parts = {"values/": "weights that tasks own", "owners/": "owners", "shared/": "other shared tensors"}
    parts |= {
        "masks/": "masks of earlier tasks' weights",
        "heads/": "heads",
        "copies/": "what single tasks have of their own",
        "which/": "statistics by which --task auto finds a task",
    }
    rest = packed.size
    for prefix, text in parts.items():
        stored = packed.bytes_below(prefix)
        bits = packed.owner_bits_per_weight
        more = f" ({bits:.3f} bits per weight)" if prefix == "owners/" and bits is not None else ""
        rest -= stored
        if stored:
            table.add_row(text + more, f"{stored:,}")
    table.add_row("header", f"{rest:,}")
    table.add_row("file", f"{packed.size:,}")
    return table


def _usable(packed: PackedFile) -> str:
    """Returns which share of all parameters is divided among tasks, and by which rule."""
    weights, parameters = sum(map(sum, packed.counts.values())), packed.header["parameters"]
    rule = f"divided among tasks: {weights:,} weights (prunable={packed.header['packnet'].get('prunable', 'paper')})"
    if parameters is None:
        return f"{rule}; the file is older than its count of all parameters"
    return f"{rule}, {100 * weights / max(1, parameters):.2f} % of all {parameters:,} parameters of the backbone"


def _narrower(packed: PackedFile) -> Iterator[str]:
    """Yields how wide the network was for tasks that were finished before it grew."""
    weights = sum(map(sum, packed.counts.values()))
    for task, shapes in narrow_shapes(packed.header).items():
        own = sum(prod(shapes[name]) for name in packed.counts)
        yield escape(as_line(f"{task} is computed as it was finished, with {own:,} of the {weights:,} weights"))


def _room(packed: PackedFile, ratio: float) -> str:
    layers = [counts[0] for counts in packed.counts.values()]
    weights = sum(sum(counts) for counts in packed.counts.values())
    shares: list[int] = []
    for owned, free in forecast(layers, [ratio] * MAX_TASKS):
        if not owned:
            break
        shares.append(owned)
        if not free:
            break
    shares = shares[: MAX_TASKS - len(packed.tasks)]
    if not shares:
        return "no further task fits: no weight is free"
    percent = ", ".join(f"{100 * owned / weights:.2f}" for owned in shares[:_SHOWN])
    more = ", ..." if len(shares) > _SHOWN else ""
    large = sum(owned >= 0.01 * weights for owned in shares)
    further = counted(len(shares), "further task")
    return (
        f"{further} would fit at ratio {ratio:g}, and own {percent}{more} % of the weights: {large} of them 1 % or more"
    )


if __name__ == "__main__":
    main()
