"""Executes the notebooks, and holds what they print against the outputs that they come with.

python notebooks/run.py             # all of them; fails with a cell's error, or at other outputs
python notebooks/run.py 2 4         # some, by the number that their name begins with
python notebooks/run.py --write     # and writes the new outputs
"""

import argparse
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import nbformat
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from nbformat import NotebookNode

FOLDER = Path(__file__).resolve().parent
SECONDS_PER_CELL = 300

# What was measured has a decimal point, or is a size: where a processor rounds otherwise a training
# ends a little elsewhere. All else is the same everywhere: words, counts, what is equal to the bit.
MEASURED = re.compile(r"-?\d+\.\d+(?:e[+-]?\d+)?|\d[\d,]*(?= bytes)")
ABSOLUTE, RELATIVE = 8.0, 0.3
COLOUR = re.compile(r"\x1b\[[\d;]*m")


def differences(committed: Sequence[str], found: Sequence[str]) -> list[str]:
    """Returns what differs between the outputs of a cell, but for measurements that do by little.

    Args:
        committed: One text per output, as :func:`texts` returns them.
        found: Those of a fresh execution.
    """
    if len(committed) != len(found):
        return [f"{len(found)} outputs instead of {len(committed)}"]
    return [
        f"now\n{new}\ninstead of\n{old}"
        for old, new in zip(committed, found, strict=True)
        if not _alike(old, new)
    ]


def texts(cell: NotebookNode) -> list[str]:
    """Returns the outputs of a cell: what was printed, and of images that there is one."""
    return [_text(output) for output in cell.outputs]


def execute(path: Path) -> NotebookNode:
    """Executes a notebook in an empty folder, with the interpreter that runs this program.

    Args:
        path: Of the notebook.

    Returns:
        The notebook with its outputs.

    Raises:
        CellExecutionError: If a cell fails.
    """
    notebook: NotebookNode = nbformat.read(path, as_version=4)
    with tempfile.TemporaryDirectory() as folder:
        kernel = KernelManager(
            kernel_name="python3",
            # No folder of kernels: those that other environments have installed are not found.
            kernel_spec_manager=KernelSpecManager(kernel_dirs=[]),
            # Sockets in the folder, where nobody else listens.
            transport="ipc",
            connection_file=f"{folder}/kernel.json",
        )
        client = NotebookClient(
            notebook,
            km=kernel,
            timeout=SECONDS_PER_CELL,
            record_timing=False,
            coalesce_streams=True,
            # Of what the kernel itself says when it starts and ends.
            extra_arguments=["--log-level=ERROR"],
            resources={"metadata": {"path": folder}},
        )
        try:
            client.execute(env=_environment(folder))
        finally:
            kernel.shutdown_kernel(now=True)
    notebook.metadata = nbformat.from_dict(
        {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
    )
    return notebook


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; returns its exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("numbers", metavar="N", nargs="*", help="default: all notebooks")
    parser.add_argument("--write", action="store_true", help="write the outputs into the notebooks")
    options = parser.parse_args(arguments)
    paths = [
        path
        for path in sorted(FOLDER.glob("*.ipynb"))
        if not options.numbers or path.name[0] in options.numbers
    ]
    changed = False
    for path in paths:
        print(f"{path.name:24}", end=" ", flush=True)
        begun = time.monotonic()
        try:
            notebook = execute(path)
        except CellExecutionError as error:
            print("failed", COLOUR.sub("", str(error)), sep="\n\n")
            return 1
        found = list(_changes(nbformat.read(path, as_version=4), notebook))
        print(
            f"{time.monotonic() - begun:4.0f} s ",
            "with other outputs" if found else "with the committed outputs",
        )
        if options.write:
            nbformat.write(notebook, path)
        else:
            changed = changed or bool(found)
            print(*found, sep="\n\n", end="\n" if found else "")
    return int(changed)


def _environment(folder: str) -> dict[str, str]:
    """Returns the environment of a kernel: one thread sums in one order on any number of cores."""
    programs = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "OMP_NUM_THREADS": "1", "IPYTHONDIR": folder, "PATH": programs}


def _changes(committed: NotebookNode, notebook: NotebookNode) -> Iterator[str]:
    for number, (old, new) in enumerate(zip(committed.cells, notebook.cells, strict=True), start=1):
        if new.cell_type == "code":
            yield from (
                f"Cell {number}: {change}" for change in differences(texts(old), texts(new))
            )


def _text(output: NotebookNode) -> str:
    if output.output_type == "stream":
        return f"{output.name}: {output.text}"
    data = output.get("data", {})
    return "an image" if "image/png" in data else str(data.get("text/plain", ""))


def _alike(old: str, new: str) -> bool:
    if MEASURED.sub(" # ", old).split() != MEASURED.sub(" # ", new).split():
        return False
    numbers = (
        [float(number.replace(",", "")) for number in MEASURED.findall(text)] for text in (old, new)
    )
    return all(
        abs(a - b) <= max(ABSOLUTE, RELATIVE * abs(a)) for a, b in zip(*numbers, strict=True)
    )


if __name__ == "__main__":
    sys.exit(main())
