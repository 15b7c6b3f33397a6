"""Stanford Cars with its boxes, which torchvision's data set leaves out."""

import os
from pathlib import Path
from typing import Any

from packnet_pl.data.annotations import check_present, read_mat
from packnet_pl.data.published import Listing, PictureList, Published

__all__ = ["CARS", "read_cars"]

CARS = Published(
    name="Stanford Cars",
    # Its own page is offline.
    home="https://docs.pytorch.org/vision/stable/generated/torchvision.datasets.StanfordCars.html",
    layout="cars_train/*.jpg, cars_test/*.jpg, devkit/cars_meta.mat, devkit/cars_train_annos.mat and "
    "cars_test_annos_withlabels.mat, or the older car_ims/*.jpg and cars_annos.mat",
    classes=196,
    train=8_144,
    test=8_041,
)
_EDGES = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")


def read_cars(path: str | os.PathLike[str]) -> Listing:
    """Finds the cars, their classes and their boxes, in the layout of torchvision or of the older single archive.

    Args:
        path: The folder stanford_cars, or the one above it.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If an annotation is not what it should be; the message names the file and the annotation.
    """
    root = CARS.folder(path, "stanford_cars")
    if (root / "cars_annos.mat").is_file():
        annotations, names = read_mat(CARS, root / "cars_annos.mat", "annotations", "class_names")
        source = root / "cars_annos.mat"
        is_test = _field(annotations, "test", source)
        test, train = (
            _pictures(root, "relative_im_path", annotations, source, [bool(flag) == wanted for flag in is_test], names)
            for wanted in (True, False)
        )
        return Listing(CARS, root, train, test, _readable(names))
    (names,) = read_mat(CARS, root / "devkit" / "cars_meta.mat", "class_names")
    test_source = root / "cars_test_annos_withlabels.mat"
    if not test_source.is_file() and (root / "devkit" / test_source.name).is_file():
        test_source = root / "devkit" / test_source.name
    found = []
    for folder, source in (("cars_train", root / "devkit" / "cars_train_annos.mat"), ("cars_test", test_source)):
        (annotations,) = read_mat(CARS, source, "annotations")
        found.append(_pictures(root / folder, "fname", annotations, source, [True] * len(annotations), names))
    return Listing(CARS, root, found[0], found[1], _readable(names))


def _pictures(folder: Path, key: str, annotations: Any, source: Path, chosen: list[bool], names: Any) -> PictureList:
    """Returns the chosen annotations of ``source``, a .mat file, whose pictures lie in ``folder``."""
    files, labels = _field(annotations, key, source), _field(annotations, "class", source)
    edges = zip(*(_field(annotations, name, source) for name in _EDGES), strict=True)
    found, places = PictureList([], [], []), []
    for number, (file, label, box, mine) in enumerate(zip(files, labels, edges, chosen, strict=True), start=1):
        if not mine:
            continue
        where = f"{source}, annotation {number} ({file})"
        try:
            left, top, right, bottom = (float(edge) for edge in box)
            label = int(label)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{where}: box or class is no number; get the file anew: {CARS.home}") from error
        if not 1 <= label <= len(names):
            raise ValueError(f"{where}: class is {label}; allowed are 1 to {len(names)}")
        if not (left <= right and top <= bottom):
            raise ValueError(f"{where}: its box has no area (x1, y1, x2, y2: {left:g}, {top:g}, {right:g}, {bottom:g})")
        found.paths.append(f"{folder}/{file}")
        found.labels.append(label - 1)
        assert found.boxes is not None
        # The first pixel is 1 there, and the last one belongs to the box.
        found.boxes.append((left - 1, top - 1, right, bottom))
        places.append(where)
    check_present(CARS, found.paths, lambda place: places[place])
    return found


def _field(annotations: Any, name: str, source: Path) -> list[Any]:
    if annotations.dtype.names is None or name not in annotations.dtype.names:
        there = list(annotations.dtype.names or ())
        raise ValueError(f"the annotations of {source} have no field {name!r}, they have {there}")
    return list(annotations[name])


def _readable(names: Any) -> tuple[str, ...]:
    return tuple(str(name) for name in names)
