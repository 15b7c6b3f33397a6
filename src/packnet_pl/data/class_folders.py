"""Published data sets that lie in one folder per class: ImageNet, Places365, WikiArt and Sketch."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from packnet_pl.data.annotations import read_lines
from packnet_pl.data.folder_layout import check_classes, list_classes
from packnet_pl.data.published import Listing, PictureList, Published

__all__ = [
    "IMAGENET",
    "PLACES365",
    "SKETCH",
    "WIKIART",
    "read_imagenet",
    "read_places365",
    "read_sketch",
    "read_wikiart",
]

IMAGENET = Published(
    name="ImageNet (ILSVRC 2012)",
    home="https://www.image-net.org",
    layout="train/WNID/*.JPEG, val/WNID/*.JPEG, with WordNet IDs such as n01440764",
    classes=1_000,
    train=1_281_167,
    test=50_000,
)
PLACES365 = Published(
    name="Places365-Standard",
    home="http://places2.csail.mit.edu",
    layout="data_256/ (or data_256_standard/), val_256/, categories_places365.txt, places365_train_standard.txt and "
    "places365_val.txt, or as train/CLASS/*.jpg, val/CLASS/*.jpg",
    classes=365,
    train=1_803_460,
    test=36_500,
)
# As prepared for Piggyback (Mallya, Davis & Lazebnik, 2018), and used by CPG; their counts are not checked.
_PIGGYBACK = "https://github.com/arunmallya/piggyback"
WIKIART = Published("WikiArt (195 artists)", _PIGGYBACK, "train/CLASS/*, test/CLASS/*")
SKETCH = Published("Sketch (250 objects)", _PIGGYBACK, "train/CLASS/*, test/CLASS/*")


def read_imagenet(path: str | os.PathLike[str]) -> Listing:
    """Finds the pictures of ImageNet; its val/ is the test split.

    torchvision's data set is not used: it wants the developers' kit, and unpacks archives.

    Raises:
        FileNotFoundError: If a folder is missing.
        ValueError: If a folder is not named by one of the 1,000 WordNet IDs, or the splits have other classes.
    """
    # Seconds to import, and nothing else knows what the classes are called.
    from timm.data.imagenet_info import ImageNetInfo

    known: Any = ImageNetInfo()
    names: dict[str, str] = {wnid: known.label_name_to_description(wnid) for wnid in known.label_names()}

    def name(wnid: str) -> str:
        if wnid not in names:
            raise ValueError(f"a folder of {path} is called {wnid!r}, which is no class of {IMAGENET.name}: delete it")
        return names[wnid]

    return _listing(IMAGENET, path, "val", name)


def read_places365(path: str | os.PathLike[str]) -> Listing:
    """Finds the pictures of Places365-Standard, by the lists of the archive or by folders; its val is the test split.

    torchvision's data set takes nothing but the full lists: it asks for their checksums.

    Raises:
        FileNotFoundError: If a file or folder is missing.
        ValueError: If a line of a list is not what it should be; the message names file and line.
    """
    root = PLACES365.folder(path)
    if (root / "train").is_dir():
        return _listing(PLACES365, path, "val", lambda name: name.replace("_", " "))
    names: dict[int, str] = {}
    for where, (category, number) in read_lines(PLACES365, root / "categories_places365.txt", str, int):
        if number != len(names):
            raise ValueError(f"{where}: number of the class is {number}; expected is {len(names)}")
        # "/a/apartment_building/outdoor": the first folder is the initial.
        names[number] = category.strip("/").partition("/")[2].replace("/", ", ").replace("_", " ")
    found = []
    for folders, file in (
        (("data_256", "data_256_standard", "data_large", "data_large_standard"), "places365_train_standard.txt"),
        (("val_256", "val_large"), "places365_val.txt"),
    ):
        folder = next((root / name for name in folders if (root / name).is_dir()), None)
        if folder is None:
            raise PLACES365.missing(f"folder {root / folders[0]}")
        pictures = PictureList([], [])
        for where, (name, label) in read_lines(PLACES365, root / file, str, int):
            if label not in names:
                raise ValueError(f"{where}: class is {label}; allowed are 0 to {len(names) - 1}")
            pictures.paths.append(f"{folder}/{name.lstrip('/')}")
            pictures.labels.append(label)
        found.append(pictures)
    return Listing(PLACES365, root, found[0], found[1], tuple(names.values()))


def read_wikiart(path: str | os.PathLike[str]) -> Listing:
    """Finds the paintings, by artist.

    Raises:
        FileNotFoundError: If a folder is missing.
        ValueError: If the splits have other classes.
    """
    return _listing(WIKIART, path, "test", _plain)


def read_sketch(path: str | os.PathLike[str]) -> Listing:
    """Finds the drawings, by object.

    Raises:
        FileNotFoundError: If a folder is missing.
        ValueError: If the splits have other classes.
    """
    return _listing(SKETCH, path, "test", _plain)


def _plain(name: str) -> str:
    return name.replace("_", " ")


def _listing(of: Published, path: str | os.PathLike[str], test: str, name: Callable[[str], str]) -> Listing:
    """Reads train/CLASS/* and ``test``/CLASS/*."""
    root: Path = of.folder(path)
    for split in ("train", test):
        if not (root / split).is_dir():
            raise of.missing(f"folder {root / split}")
    splits = {split: list_classes(root / split) for split in ("train", test)}
    check_classes(root, splits, f"{of.name} is expected as {of.layout}; home page: {of.home}")
    train, held = (
        PictureList(
            [file for files in classes.values() for file in files],
            [label for label, files in enumerate(classes.values()) for _ in files],
        )
        for classes in splits.values()
    )
    return Listing(of, root, train, held, tuple(map(name, splits["train"])))
