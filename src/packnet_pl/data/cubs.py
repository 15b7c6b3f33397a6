"""Caltech-UCSD Birds 200-2011 from its annotations; torchvision does not have it."""

import os
from pathlib import Path
from typing import Any

from packnet_pl.data.annotations import check_present, read_lines
from packnet_pl.data.image_list import ImageList
from packnet_pl.data.published import Listing, Published
from packnet_pl.names import distinct_names

__all__ = ["CUBS", "read_cubs"]

CUBS = Published(
    name="CUB-200-2011",
    home="https://www.vision.caltech.edu/datasets/cub_200_2011/",
    layout="images.txt, image_class_labels.txt, train_test_split.txt, bounding_boxes.txt, classes.txt, "
    "images/CLASS/*.jpg",
    classes=200,
    train=5_994,
    test=5_794,
)


def read_cubs(path: str | os.PathLike[str]) -> Listing:
    """Finds the birds, their classes and their boxes.

    Args:
        path: The folder CUB_200_2011, or the one above it.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If an annotation is not what it should be; the message names file and line.
    """
    root = CUBS.folder(path, "CUB_200_2011")
    names = _by_id(root / "classes.txt", str)
    number = {key: index for index, key in enumerate(sorted(names))}
    images, labels = _by_id(root / "images.txt", str), _by_id(root / "image_class_labels.txt", int)
    splits = _by_id(root / "train_test_split.txt", int)
    boxes = _by_id(root / "bounding_boxes.txt", float, float, float, float)
    for other, file in ((labels, "image_class_labels"), (splits, "train_test_split"), (boxes, "bounding_boxes")):
        for key in images.keys() ^ other.keys():
            here, there = ("images", file) if key in images else (file, "images")
            where = (images if key in images else other)[key][0]
            raise ValueError(f"{where}: image {key} is in {here}.txt, but {root / there}.txt does not have it")
    found = {1: ImageList([], [], []), 0: ImageList([], [], [])}
    named_in: dict[int, list[str]] = {1: [], 0: []}
    for key, (where, (name,)) in images.items():
        label_at, (label,) = labels[key]
        split_at, (is_train,) = splits[key]
        box_at, (left, top, width, height) = boxes[key]
        if label not in number:
            raise ValueError(f"{label_at}: class {label} of image {key} is not in {root / 'classes.txt'}")
        if is_train not in found:
            raise ValueError(f"{split_at}: image {key} has {is_train}; allowed are 1 (training) and 0 (test)")
        if not (width > 0 and height > 0):
            raise ValueError(f"{box_at}: the box of image {key} ({name}) is {width:g} x {height:g} pixels")
        split = found[is_train]
        split.paths.append(f"{root}/images/{name}")
        split.labels.append(number[label])
        assert split.boxes is not None
        split.boxes.append((left, top, left + width, top + height))
        named_in[is_train].append(where)
    for is_train, split in found.items():
        check_present(CUBS, split.paths, lambda index, of=is_train: named_in[of][index])  # type: ignore[misc]
    keys = [names[key][1][0] for key in sorted(names)]
    return Listing(CUBS, root, found[1], found[0], distinct_names([_readable(key) for key in keys], keys))


def _by_id(path: Path, *kinds: Any) -> dict[int, tuple[str, tuple[Any, ...]]]:
    """Returns the first number of each line -> where the line is, and its other values."""
    found: dict[int, tuple[str, tuple[Any, ...]]] = {}
    for where, (key, *values) in read_lines(CUBS, path, int, *kinds):
        if key in found:
            raise ValueError(f"{where}: number {key} is there twice, first in {found[key][0]}")
        found[key] = where, tuple(values)
    return found


def _readable(name: str) -> str:
    return name.partition(".")[2].replace("_", " ") or name
