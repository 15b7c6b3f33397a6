"""Inventory of a task's splits, by which a run notices that it resumes with other data than it began with."""

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.data import Subset, TensorDataset

from packnet_pl.data.image_files import LOOKED_INTO, Box, ImageFiles

__all__ = ["Inventory", "SplitInventory", "list_files", "take_inventory"]


@dataclass(frozen=True)
class SplitInventory:
    """The contents of a split, as far as they are known without reading an image.

    Attributes:
        images: How many there are.
        digest: BLAKE2b hash (hex) of the list of its files (path below the data set's folder, class, box, and up to
            :data:`packnet_pl.data.image_files.LOOKED_INTO` files the size), or of its tensors; None if it has neither.
    """

    images: int
    digest: str | None


@dataclass(frozen=True)
class Inventory:
    """The contents of the splits of a task.

    Attributes:
        class_names: One per class.
        splits: "train", "val", "test" -> what it holds.
    """

    class_names: tuple[str, ...]
    splits: Mapping[str, SplitInventory]


def take_inventory(class_names: tuple[str, ...], splits: Mapping[str, Any]) -> Inventory:
    """Returns what ``splits`` (name -> data set) hold, as they are on the disk now."""
    listed = list_files(splits)
    found = {}
    for name, split in splits.items():
        if name in listed:
            digest: str | None = _hash(os.fsencode(line) for line in listed[name])
        else:
            digest = _digest_of_tensors(split)
        found[name] = SplitInventory(len(split), digest)
    return Inventory(class_names, found)


def list_files(splits: Mapping[str, Any]) -> dict[str, list[str]]:
    """Returns the splits that read their images from files: name -> a line per image, "CLASS SIZE BOX PATH".

    Paths are those below the folder that all have in common, so that a data set may be moved. The size is in bytes, "-"
    where there are too many files to ask each for it, and so is the box where there is none.
    """
    found = {name: files for name, split in splits.items() if (files := _files(split)) is not None}
    paths = [path for files in found.values() for path, _, _ in files]
    if not paths:
        return {}
    folder = os.path.commonpath([os.path.dirname(min(paths)), os.path.dirname(max(paths))]) + "/"  # noqa: PTH120
    sized = len(paths) <= LOOKED_INTO
    return {
        name: [
            f"{label} {_size(path) if sized else '-'} {_written(box)} {path.removeprefix(folder)}"
            for path, label, box in files
        ]
        for name, files in found.items()
    }


def _files(split: Any) -> list[tuple[str, int, Box | None]] | None:
    split, indices = _beneath(split)
    if not isinstance(split, ImageFiles):
        return None
    boxes = split.boxes or [None] * len(split)
    return [(split.paths[index], split.labels[index], boxes[index]) for index in indices]


def _digest_of_tensors(split: Any) -> str | None:
    split, indices = _beneath(split)
    if not isinstance(split, TensorDataset):
        return None
    return _hash(_bytes(tensor[list(indices)]) for tensor in split.tensors)


def _beneath(split: Any) -> tuple[Any, Iterable[int]]:
    """Returns the data set that ``split`` is a subset of, and the indices of its items."""
    indices: Any = range(len(split))
    while isinstance(split, Subset):
        split, indices = split.dataset, [split.indices[index] for index in indices]
    return split, indices


def _bytes(tensor: torch.Tensor) -> bytes:
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _hash(parts: Iterator[bytes]) -> str:
    found = hashlib.blake2b(digest_size=16)
    for part in parts:
        found.update(len(part).to_bytes(8, "little") + part)
    return found.hexdigest()


def _size(path: str) -> int | str:
    try:
        return os.stat(path).st_size  # noqa: PTH116 (100,000 of them)
    except OSError:
        return "-"  # whoever reads it says so


def _written(box: Box | None) -> str:
    return "-" if box is None else ",".join(f"{edge:g}" for edge in box)
