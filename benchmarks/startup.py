"""What starting costs: python benchmarks/startup.py RUN_DIR [--rounds N].

Each command beside the import that it is measured by, in turns: CPU time (user and system) of whole processes, medians.
RUN_DIR is the directory of a run with a finished task on images, such as a `packnet-train debug=tiny` leaves.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from packnet_pl.container import open_packed

COMMANDS = Path(sys.executable).parent


@dataclass(frozen=True)
class Row:
    """One command.

    Attributes:
        what: It does, for the table.
        words: Name of the command and its arguments.
        imports: Modules whose import in an interpreter of its own is the measure.
        bound: How many times the measure it may take.
        code: With which it ends.
    """

    what: str
    words: tuple[str, ...]
    imports: str
    bound: float
    code: int = 0


def main() -> None:
    """Prints the table as Markdown."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("run", metavar="RUN_DIR", type=Path)
    parser.add_argument("--rounds", type=int, default=5, help="of which the median is taken (default: 5)")
    arguments = parser.parse_args()
    file = open_packed(arguments.run / "packed.safetensors")
    task = file.header["tasks"][0]
    print("| command | its CPU time, s | beside `import` of | s | ratio | at most |")  # noqa: T201
    print("|---|---|---|---|---|---|")  # noqa: T201
    with tempfile.TemporaryDirectory() as folder:
        image = Path(folder) / "image.png"
        channels, height, width = task["input_shape"]
        shape = (height, width) if channels == 1 else (height, width, channels)
        Image.fromarray(np.zeros(shape, np.uint8)).save(image)
        for row in rows(arguments.run, task["name"], str(image)):
            spent = [cpu_seconds(row, folder) for _ in range(arguments.rounds)]
            mine, measure = (statistics.median(times) for times in zip(*spent, strict=True))
            print(  # noqa: T201
                f"| {row.what} | {mine:.2f} | {row.imports} | {measure:.2f} | {mine / measure:.2f} | {row.bound:g} |"
            )


def rows(run: Path, task: str, image: str) -> list[Row]:
    """Returns the commands, in the order of the table."""
    file = str((run / "packed.safetensors").absolute())
    return [
        Row("`packnet-inspect FILE`", ("packnet-inspect", file), "numpy", 1.5),
        Row("`packnet-predict`, no such file", ("packnet-predict", "nowhere", "--task", task, image), "hydra", 2, 2),
        Row(
            "`packnet-predict`, no such image", ("packnet-predict", file, "--task", task, "nowhere.png"), "hydra", 2, 2
        ),
        Row("`packnet-predict`, no such task", ("packnet-predict", file, "--task", "nothing", image), "hydra", 2, 2),
        Row("`packnet-predict` of one image", ("packnet-predict", file, "--task", task, image), "torch, PIL", 1.3),
        Row("`packnet-train prune.ratoi=1`", ("packnet-train", "prune.ratoi=1"), "hydra", 1.5, 2),
        Row("`packnet-train prune.ratio=75`", ("packnet-train", "prune.ratio=75"), "hydra", 1.5, 2),
    ]


def cpu_seconds(row: Row, folder: str) -> tuple[float, float]:
    """Returns what the command and its measure take, one after the other, in ``folder``."""
    mine = _spent([str(COMMANDS / row.words[0]), *row.words[1:]], folder, row.code)
    return mine, _spent([sys.executable, "-c", f"import {row.imports}"], folder, 0)


def _spent(command: Sequence[str], folder: str, code: int) -> float:
    before = os.times()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != code:
        raise RuntimeError(f"{command} ended with code {done.returncode} instead of {code}: {done.stderr}")
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


if __name__ == "__main__":
    main()
