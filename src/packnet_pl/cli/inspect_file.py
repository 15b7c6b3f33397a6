"""``packnet-inspect``: what is in a packed file, without building its network."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from packnet_pl.cli.packed_files import console_width, read_file
from packnet_pl.command_line import CommandParser
from packnet_pl.counting import counted
from packnet_pl.errors import UsageError, answering_errors
from packnet_pl.text import as_line

if TYPE_CHECKING:
    from packnet_pl.packed import Packed

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
        arguments = parser.parse_words()
        if not 0 <= arguments.ratio < 1:
            raise UsageError(f"--ratio is {arguments.ratio}; allowed is a fraction in [0, 1), never percent")
        packed = read_file(arguments.file)

        from rich.console import Console

        console = Console(width=console_width(), highlight=False)
        console.print(_about(packed), soft_wrap=True)
        console.print(_tasks(packed))
        if packed.counts:
            console.print(_layers(packed))
        console.print(_sizes(packed))
        if packed.counts:
            sys.stdout.write(_room(packed, arguments.ratio) + "\n")


def _about(packed: "Packed") -> str:
    builder = packed.header["backbone"]
    if builder is None:
        return "backbone: not named, load_packed() has to be given one"
    said = ", ".join(f"{key}={value}" for key, value in builder["arguments"].items())
    return _plain(as_line(f"backbone: {builder['name']}({said})", _LONGEST_LINE))


def _tasks(packed: "Packed") -> Any:
    table = _table("task", ("classes", "image", "ratio", "accuracy,\n%", "weights", "owned,\n%"))
    totals = [sum(column) for column in zip(*packed.counts.values(), strict=True)]
    for number, task in enumerate(packed.header["tasks"], start=1):
        owned = totals[number] if totals else None
        table.add_row(
            _plain(task["name"]),
            str(task["num_classes"]),
            " x ".join(map(str, task["input_shape"])) or "-",
            "-" if task["ratio"] is None else f"{task['ratio']:g}",
            "-" if task["accuracy"] is None else f"{100 * task['accuracy']:.2f}",
            "-" if owned is None else f"{owned:,}",
            "-" if owned is None else f"{100 * owned / max(1, sum(totals)):.2f}",
        )
    if totals:
        table.add_row("free", "", "", "", "", f"{totals[0]:,}", f"{100 * totals[0] / max(1, sum(totals)):.2f}")
    return table


def _layers(packed: "Packed") -> Any:
    table = _table("layer", ("weights", *packed.tasks, "free"), note="owned, %")
    for name, (free, *owned) in packed.counts.items():
        weights = max(1, free + sum(owned))
        shares = [f"{100 * count / weights:.2f}" for count in (*owned, free)]
        table.add_row(_plain(name), f"{free + sum(owned):,}", *shares)
    return table


def _sizes(packed: "Packed") -> Any:
    table = _table("in the file", ("bytes",))
    parts = {"values/": "weights that tasks own", "owners/": "owners", "shared/": "other shared tensors"}
    parts |= {"heads/": "heads", "copies/": "what single tasks have of their own"}
    rest = packed.size
    for prefix, said in parts.items():
        stored = sum(t.numel() * t.element_size() for name, t in packed.tensors.items() if name.startswith(prefix))
        bits = packed.owner_bits_per_weight
        more = f" ({bits:.3f} bits per weight)" if prefix == "owners/" and bits is not None else ""
        rest -= stored
        if stored:
            table.add_row(said + more, f"{stored:,}")
    table.add_row("header", f"{rest:,}")
    table.add_row("file", f"{packed.size:,}")
    return table


def _room(packed: "Packed", ratio: float) -> str:
    from packnet_pl.capacity import forecast

    layers = [counts[0] for counts in packed.counts.values()]
    weights = sum(sum(counts) for counts in packed.counts.values())
    shares: list[int] = []
    for owned, free in forecast(layers, [ratio] * 255):
        if not owned:
            break
        shares.append(owned)
        if not free:
            break
    shares = shares[: 255 - len(packed.tasks)]
    if not shares:
        return "no further task fits: no weight is free"
    percent = ", ".join(f"{100 * owned / weights:.2f}" for owned in shares[:_SHOWN])
    more = ", ..." if len(shares) > _SHOWN else ""
    large = sum(owned >= 0.01 * weights for owned in shares)
    further = counted(len(shares), "further task")
    return (
        f"{further} would fit at ratio {ratio:g}, and own {percent}{more} % of the weights: {large} of them 1 % or more"
    )


def _table(first: str, others: tuple[str, ...], note: str | None = None) -> Any:
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True, title=note)
    table.add_column(first, overflow="fold")
    for heading in others:
        table.add_column(_plain(heading), justify="right", overflow="fold")
    return table


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


if __name__ == "__main__":
    main()
