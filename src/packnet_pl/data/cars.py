"""Stanford Cars from its annotations, with the boxes that torchvision leaves out."""

import os
from pathlib import Path
from typing import Any

from packnet_pl.data.annotations import check_present, read_mat
from packnet_pl.data.image_list import ImageList
from packnet_pl.data.published import Listing, Published
from packnet_pl.names import distinct_names

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
# That of the archive, and those of copies at Kaggle.
_DEVKITS = ("devkit/devkit", "devkit", "car_devkit/devkit", "car_devkit")
_UNLABELLED = "cars_test_annos.mat"
_EDGES = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")


def read_cars(path: str | os.PathLike[str]) -> Listing:
    """Finds the cars, their classes and their boxes, in the layout of torchvision or of the older single archive.

    Folders may lie in one of the same name, as in copies at Kaggle.

    Args:
        path: The folder stanford_cars, or the one above it.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If an annotation is not what it should be; the message names the file and the annotation.
    """
    root = CARS.folder(path, "stanford_cars")
    if (root / "cars_annos.mat").is_file() and ((root / "car_ims").is_dir() or not (root / "cars_train").is_dir()):
        annotations, names = read_mat(CARS, root / "cars_annos.mat", "annotations", "class_names")
        source = root / "cars_annos.mat"
        is_test = _field(annotations, "test", source)
        above = _deeper(root, "car_ims").parent
        test, train = (
            _images(above, "relative_im_path", annotations, source, [bool(flag) == wanted for flag in is_test], names)
            for wanted in (True, False)
        )
        return Listing(CARS, root, train, test, _readable(names))
    _refuse_other_layouts(root)
    devkit = next((found for found in map(root.joinpath, _DEVKITS) if found.is_dir()), root / "devkit")
    (names,) = read_mat(CARS, devkit / "cars_meta.mat", "class_names")
    found = []
    for folder, source in (
        ("cars_train", devkit / "cars_train_annos.mat"),
        ("cars_test", _labelled_test(root, devkit)),
    ):
        (annotations,) = read_mat(CARS, source, "annotations")
        found.append(_images(_deeper(root, folder), "fname", annotations, source, [True] * len(annotations), names))
    return Listing(CARS, root, found[0], found[1], _readable(names))


def _deeper(root: Path, name: str) -> Path:
    """Returns the folder ``name``, or the one of that name in it, which copies at Kaggle have."""
    return root / name / name if (root / name / name).is_dir() else root / name


def _labelled_test(root: Path, devkit: Path) -> Path:
    name = "cars_test_annos_withlabels.mat"
    for found in (root / name, devkit / name, devkit.parent / name):
        if found.is_file():
            return found
    unlabelled = next((folder / _UNLABELLED for folder in (devkit, root) if (folder / _UNLABELLED).is_file()), None)
    if unlabelled is not None:
        raise CARS.missing(f"file {root / name}: {unlabelled} has the boxes of the test images, but not their classes")
    return root / name


def _refuse_other_layouts(root: Path) -> None:
    """Refuses two layouts of Kaggle's that cannot be read, by saying what they are.

    Raises:
        FileNotFoundError: If it is one of them.
    """
    if (root / "cars_annos.mat").is_file() and not any((root / name).is_dir() for name in _DEVKITS):
        raise CARS.missing(
            f"folder {root / 'car_ims'}, to which {root / 'cars_annos.mat'} belongs; the numbers of the images in "
            f"cars_train/ and cars_test/ are others, and {root / 'devkit'}, which has theirs, is not there"
        )
    for folder in (root, root / "car_data", root / "car_data" / "car_data"):
        if (folder / "train").is_dir() and (folder / "test").is_dir() and not (root / "cars_train").exists():
            raise CARS.missing(
                f"folder {root / 'cars_train'}: {folder} holds the cars in class folders, without their boxes; they "
                "can be trained on as images of your own, whole and with other classes' names (sequence=folders)"
            )


def _images(folder: Path, key: str, annotations: Any, source: Path, chosen: list[bool], names: Any) -> ImageList:
    """Returns the chosen annotations of ``source``, a .mat file, whose images lie in ``folder``."""
    files, labels = _field(annotations, key, source), _field(annotations, "class", source)
    edges = zip(*(_field(annotations, name, source) for name in _EDGES), strict=True)
    found, named_in = ImageList([], [], []), []
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
        named_in.append(where)
    check_present(CARS, found.paths, lambda index: named_in[index])
    return found


def _field(annotations: Any, name: str, source: Path) -> list[Any]:
    if annotations.dtype.names is None or name not in annotations.dtype.names:
        there = list(annotations.dtype.names or ())
        unlabelled = (
            "; it is the file without labels: cars_test_annos_withlabels.mat has them" if name == "class" else ""
        )
        raise ValueError(f"the annotations of {source} have no field {name!r}, they have {there}{unlabelled}")
    return list(annotations[name])


def _readable(names: Any) -> tuple[str, ...]:
    return distinct_names([str(name) for name in names], [f"class {number}" for number in range(1, len(names) + 1)])
