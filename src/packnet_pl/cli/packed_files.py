"""Finds and checks, without torch, the packed file, the task and the images that a command line names."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from packnet_pl.container import PackedFile, open_packed
from packnet_pl.errors import UsageError
from packnet_pl.image_names import EXTENSIONS, is_clutter, is_image_name
from packnet_pl.text import as_line, brief

if TYPE_CHECKING:
    from packnet_pl.packed import PackedNetwork

__all__ = ["check_task", "find_images", "find_packed", "load_network", "open_file"]


def find_packed(path: Path) -> Path:
    """Returns the packed file at ``path``: the file itself, or that of a run directory.

    Raises:
        UsageError: If there is none.
    """
    found = path / "packed.safetensors" if path.is_dir() else path
    if not found.is_file():
        raise UsageError(f"there is no packed file {found}; name one, or the directory of a run with a finished task")
    return found


def open_file(path: Path) -> PackedFile:
    """Opens the packed file at ``path``, or that of a run directory; its tensors are not read yet.

    Raises:
        UsageError: If there is none, or its header or table are damaged.
    """
    try:
        return open_packed(find_packed(path))
    except ValueError as error:
        raise UsageError(str(error)) from error


def load_network(file: PackedFile) -> "PackedNetwork":
    """Returns the network that an opened file holds.

    Raises:
        UsageError: If it cannot be read or built.
    """
    from packnet_pl.packed import build_network

    try:
        return build_network(file)
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
            inside += [str(Path(folder) / name) for name in names if is_image_name(name) and not is_clutter(name)]
        if not inside:
            raise UsageError(f"{path} holds no image; files that end in one of {', '.join(EXTENSIONS)} are taken")
        found += sorted(inside)
    return found
