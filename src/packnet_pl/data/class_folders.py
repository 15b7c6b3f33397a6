"""Finds the images of published data sets in one folder per class: ImageNet, Places365, WikiArt, Sketch."""

import os
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from packnet_pl.data.annotations import check_present, read_lines
from packnet_pl.data.class_listing import holds_something, list_classes
from packnet_pl.data.folder_layout import checked_classes
from packnet_pl.data.image_list import ImageList
from packnet_pl.data.published import Listing, Published
from packnet_pl.names import distinct_names

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
    """Finds the images of ImageNet; its val/ is the test split.

    Classes have all their words, and where two have the same ones (crane, the bird and the machine) the WordNet ID too.
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

    return _listing(IMAGENET, path, "val", name, "ILSVRC", "Data", "CLS-LOC")


def read_places365(path: str | os.PathLike[str]) -> Listing:
    """Finds the images of Places365-Standard, by the lists of the archive or by folders; its val is the test split.

    torchvision's data set takes nothing but the full lists: it asks for their checksums.

    Raises:
        FileNotFoundError: If a file or folder is missing.
        ValueError: If a line of a list is not what it should be; the message names file and line.
    """
    root = PLACES365.folder(path)
    lists = root / "categories_places365.txt"
    if _has_classes(root / "train") or ((root / "train").is_dir() and not lists.is_file()):
        # "apartment_building-outdoor"; no category has a hyphen of its own.
        return _listing(PLACES365, path, "val", lambda name: name.replace("-", ", ").replace("_", " "))
    keys: dict[int, str] = {}
    for where, (category, number) in read_lines(PLACES365, lists, str, int):
        if number != len(keys):
            raise ValueError(f"{where}: number of the class is {number}; expected is {len(keys)}")
        keys[number] = category.strip("/")
    # "a/apartment_building/outdoor": the first folder is the initial.
    names = [key.partition("/")[2].replace("/", ", ").replace("_", " ") for key in keys.values()]
    train = _listed(
        root, ("data_256", "data_256_standard", "data_large", "data_large_standard"), "train_standard", keys
    )
    test = _listed(root, ("val_256", "val_large"), "val", keys)
    return Listing(PLACES365, root, train, test, distinct_names(names, list(keys.values())))


def _has_classes(folder: Path) -> bool:
    return folder.is_dir() and any(holds_something(below) for below in folder.iterdir())


def _listed(root: Path, folders: tuple[str, ...], name: str, classes: Mapping[int, str]) -> ImageList:
    """Returns the images of the list places365_``name``.txt, which are all in the first of ``folders`` that is there.

    Raises:
        FileNotFoundError: If list, folder or an image is missing.
        ValueError: If a class is none of ``classes``.
    """
    folder = next((root / name for name in folders if holds_something(root / name)), None)
    if folder is None:
        raise PLACES365.missing(f"folder {root / folders[0]}")
    path, found = root / f"places365_{name}.txt", ImageList([], [])
    for where, (file, label) in read_lines(PLACES365, path, str, int):
        if label not in classes:
            raise ValueError(f"{where}: class is {label}; allowed are 0 to {len(classes) - 1}")
        found.paths.append(f"{folder}/{file.lstrip('/')}")
        found.labels.append(label)
    # The line is looked for again: of 1.8 million all but one are read for nothing.
    check_present(
        PLACES365, found.paths, lambda index: next(islice(read_lines(PLACES365, path, str, int), index, None))[0]
    )
    return found


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


def _listing(
    of: Published, path: str | os.PathLike[str], test: str, name: Callable[[str], str], *below: str
) -> Listing:
    """Reads train/CLASS/* and ``test``/CLASS/*, in the folder or, if it has no train/, in one ``below`` it."""
    root: Path = of.folder(path)
    if not (root / "train").is_dir():
        root = of.folder(path, *below)
    for split in ("train", test):
        if not (root / split).is_dir():
            raise of.missing(f"folder {root / split}")
    splits = checked_classes(
        root,
        {split: list_classes(root / split) for split in ("train", test)},
        f"{of.name} is expected as {of.layout}; home page: {of.home}",
    )
    keys = list(splits["train"])
    train, held = (ImageList.of_classes(classes) for classes in splits.values())
    return Listing(of, root, train, held, distinct_names([name(key) for key in keys], keys))
