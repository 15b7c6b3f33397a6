"""The packed file that a command line names, and the images."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from packnet_pl.errors import UsageError
from packnet_pl.text import as_line, brief

if TYPE_CHECKING:
    from packnet_pl.packed import Packed, PackedNetwork

__all__ = ["check_task", "console_width", "find_images", "find_packed", "load_network", "read_file"]


def find_packed(path: Path) -> Path:
    """Returns the packed file at ``path``: the file itself, or that of a run directory.

    Raises:
        UsageError: If there is none.
    """
    found = path / "packed.safetensors" if path.is_dir() else path
    if not found.is_file():
        raise UsageError(f"there is no packed file {found}; name one, or the directory of a run with a finished task")
    return found


def read_file(path: Path) -> "Packed":
    """Returns what the packed file holds.

    Raises:
        UsageError: If it cannot be read.
    """
    from packnet_pl.packed import read_packed

    try:
        return read_packed(find_packed(path))
    except ValueError as error:
        raise UsageError(str(error)) from error


def load_network(path: Path) -> "PackedNetwork":
    """Returns the network that the packed file holds.

    Raises:
        UsageError: If it cannot be read or built.
    """
    from packnet_pl.packed import load_packed

    try:
        return load_packed(find_packed(path))
    except ValueError as error:
        raise UsageError(str(error)) from error


def check_task(task: str | None, tasks: list[str]) -> str:
    """Returns ``task``.

    Raises:
        UsageError: If it is none of ``tasks``.
    """
    if task not in tasks:
        given = "--task is missing" if task is None else f"--task is {brief(task)}"
        raise UsageError(f"{given}; the file has the tasks {as_line(tasks)}")
    return task


def find_images(paths: list[Path]) -> list[str]:
    """Returns the files that are named, and those in the folders that are named, by their endings, sorted.

    Raises:
        UsageError: If a path is not there, or a folder holds no image.
    """
    from packnet_pl.data.class_listing import is_clutter
    from packnet_pl.data.image_files import EXTENSIONS

    endings = tuple(f".{extension}" for extension in EXTENSIONS)
    found: list[str] = []
    for path in paths:
        if path.is_file():
            found.append(str(path))
            continue
        if not path.is_dir():
            raise UsageError(f"there is no image or folder {path}")
        inside = []
        for folder, folders, names in os.walk(path):
            folders[:] = [name for name in folders if not is_clutter(name)]
            inside += [
                str(Path(folder) / name) for name in names if name.lower().endswith(endings) and not is_clutter(name)
            ]
        if not inside:
            raise UsageError(f"{path} holds no image; files that end in one of {', '.join(EXTENSIONS)} are taken")
        found += sorted(inside)
    return found


def console_width() -> int | None:
    """Returns the width of tables: that of the terminal, or a fixed one where there is none."""
    from packnet_pl.report import TABLE_WIDTH

    return None if sys.stdout.isatty() else TABLE_WIDTH
