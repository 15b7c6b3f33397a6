"""The files of a sharded network's checkpoint: one that says all but weights, and a folder with those of each process.

``last.ckpt`` is a file like any other checkpoint, replaced as a whole, and names a folder beside it, such as
``last-3.shards``, which is complete before the file names it. So whoever reads ``last.ckpt`` finds the earlier
checkpoint or the later one, whenever a process is killed; a folder that no file names is left over.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = [
    "SHARDS",
    "check_has_all",
    "check_shards",
    "copy_shards",
    "describe_shards",
    "has_shards",
    "move_checkpoint",
    "new_shards",
    "remove_other_shards",
    "shards_named",
]

SHARDS = "shards"
"""Key under which a checkpoint's file names its folder, with the sizes of the files in it."""


def new_shards(path: Path) -> Path:
    """Returns a folder that is not there yet, for the next checkpoint that ``path`` is to name."""
    numbers = [int(folder.stem.rpartition("-")[2]) for folder in _folders(path)]
    return _folder(path, max(numbers, default=0) + 1)


def describe_shards(folder: Path) -> dict[str, Any]:
    """Returns what a checkpoint's file says of its folder, which is complete."""
    number = int(folder.stem.rpartition("-")[2])
    return {"number": number, "files": {file.name: file.stat().st_size for file in sorted(folder.iterdir())}}


def shards_named(path: Path, checkpoint: Mapping[str, Any]) -> Path | None:
    """Returns the folder that the content of a checkpoint's file names; None where the file holds all.

    Args:
        path: Of the file.
        checkpoint: What it holds.
    """
    found = checkpoint.get(SHARDS)
    return _folder(path, found["number"]) if isinstance(found, Mapping) else None


def check_shards(path: Path, checkpoint: Mapping[str, Any]) -> None:
    """Checks that all files of the folder that a checkpoint names are there, and as long as they were written.

    Args:
        path: Of the checkpoint's file.
        checkpoint: What it holds.

    Raises:
        ValueError: Otherwise.
    """
    folder = shards_named(path, checkpoint)
    if folder is None:
        return
    for name, size in checkpoint[SHARDS]["files"].items():
        file = folder / name
        found = file.stat().st_size if file.is_file() else None
        if found != size:
            has = "is not there" if found is None else f"has {found:,} bytes"
            raise ValueError(f"{path} is damaged: {file} {has}, and was written with {size:,}")


def has_shards(path: Path) -> bool:
    """Returns whether a checkpoint has a folder; without reading its file."""
    return bool(_folders(path))


def check_has_all(path: Path | str | None, checkpoint: Mapping[str, Any]) -> None:
    """Checks that the file of a checkpoint holds the weights, as whoever reads it alone needs.

    Args:
        path: Of the file, for the message.
        checkpoint: What it holds.

    Raises:
        ValueError: If they are in a folder beside it.
    """
    if SHARDS in checkpoint:
        raise ValueError(
            f"{path} was written by processes that each had a part of the network: go on with "
            "strategy=ShardedStrategy() (trainer=fsdp), on any number of devices"
        )


def remove_other_shards(path: Path, used: Path | None) -> None:
    """Removes the folders of earlier checkpoints of ``path``, and those that were left over.

    Args:
        path: Of the checkpoint's file.
        used: The folder that it names.
    """
    for folder in _folders(path):
        if folder != used:
            shutil.rmtree(folder, ignore_errors=True)


def move_checkpoint(source: Path, target: Path) -> Path:
    """Renames a checkpoint, with its folder if it has one; returns the new name.

    Args:
        source: Of its file.
        target: The new name, in the same folder.
    """
    remove_other_shards(target, None)
    source.replace(target)  # first: what a killed process leaves here is a folder that no file names
    for folder in _folders(source):
        folder.rename(_folder(target, int(folder.stem.rpartition("-")[2])))
    return target


def copy_shards(source: Path, target: Path, checkpoint: Mapping[str, Any]) -> None:
    """Copies the folder of a checkpoint, if it has one, for a copy of its file that comes next.

    Args:
        source: Of the checkpoint's file.
        target: Of the copy.
        checkpoint: What it holds.
    """
    folder = shards_named(source, checkpoint)
    if folder is not None:
        copied = shards_named(target, checkpoint)
        assert copied is not None
        remove_other_shards(target, None)
        shutil.copytree(folder, copied)


def _folder(path: Path, number: int) -> Path:
    return path.with_name(f"{path.stem}-{number}.shards")


def _folders(path: Path) -> list[Path]:
    found = [folder for folder in path.parent.glob("*.shards") if folder.stem.rpartition("-")[0] == path.stem]
    return sorted(folder for folder in found if folder.stem.rpartition("-")[2].isdecimal())
