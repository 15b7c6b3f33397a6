"""Finds the images of train/, val/ and test/ with class folders, and faults that would spoil a run later."""

import os
from pathlib import Path

from packnet_pl.data.class_listing import ClassListing, Split, aligned, list_classes, log_left_out
from packnet_pl.data.image_files import check_image, check_sizes
from packnet_pl.image_names import EXTENSIONS

__all__ = ["checked_classes", "find_images"]


def find_images(path: str | os.PathLike[str]) -> dict[str, Split]:
    """Returns "train", "test" and, where there is such a folder, "val": class -> paths of its images.

    Args:
        path: The folder that holds train/<class>/ and test/<class>/; ``~`` is the home folder.

    Raises:
        FileNotFoundError: If a folder is missing.
        ValueError: If a class is missing or empty in a split, there is only one, a file is there twice, a link leads
            nowhere, the first image of a class cannot be opened, or one has more pixels than Pillow reads.
    """
    if not path:
        raise ValueError(f"path is {path!r}; name the folder that holds train/CLASS/* and test/CLASS/*")
    # Not Path.expanduser: it raises a RuntimeError for an unknown user.
    root = Path(os.path.expanduser(path)).absolute()  # noqa: PTH111
    if not root.is_dir():
        raise FileNotFoundError(f"there is no folder {root}; {_layout(root)}")
    for name in ("train", "test"):
        if not (root / name).is_dir():
            raise FileNotFoundError(f"{root} has no folder {name}/; {_layout(root)}")
    names = ("train", "val", "test") if (root / "val").is_dir() else ("train", "test")
    splits = checked_classes(root, {name: list_classes(root / name) for name in names}, _layout(root))
    _check_once(splits)
    for split in splits.values():
        for files in split.values():
            check_image(files[0])
    check_sizes([file for split in splits.values() for files in split.values() for file in files])
    return splits


def _layout(root: Path) -> str:
    return f"expected are {root}/train/CLASS/* and {root}/test/CLASS/*, and optionally {root}/val/CLASS/*"


def checked_classes(root: Path, listings: dict[str, ClassListing], layout: str) -> dict[str, Split]:
    """Returns the images of splits that have the same classes, at least two, and says what was left out.

    Args:
        root: The folder that has a sub-folder for each split.
        listings: Name of the sub-folder -> what it holds; the first one spells the names of the classes.
        layout: What is expected, for the message.

    Raises:
        ValueError: If a class is missing or without images in a split, or there are fewer than two.
    """
    splits = aligned({split: listing.classes for split, listing in listings.items()})
    classes = sorted({name for split in splits.values() for name in split})
    if len(classes) < 2:
        found = f"only the class {classes[0]!r}" if classes else "no class folder"
        raise ValueError(f"{root} has {found}; at least two classes are needed, and {layout}")
    for name in classes:
        for split, files in splits.items():
            if name not in files:
                there = next(other for other in splits if name in splits[other])
                raise ValueError(
                    f"class {name!r} is in {root / there}, but {root / split} has no such folder; "
                    + ("add it" if files else _without_classes(split, listings[split]))
                )
            if not files[name]:
                raise ValueError(
                    f"class {name!r} has no image in {root / split / name}; "
                    f"files directly in it that end in one of {', '.join(EXTENSIONS)} are taken"
                )
    log_left_out(root, listings)
    return splits


def _without_classes(split: str, listing: ClassListing) -> str:
    if listing.loose:
        return f"it has none, but images ({listing.loose:,}): sort them into {split}/CLASS/"
    return "it has none: fill it" + (", or delete it: validation is cut from train then" if split == "val" else "")


def _check_once(splits: dict[str, Split]) -> None:
    """Refuses a file that is there twice: an image to test on would have been learned, or have two classes."""
    seen: dict[str, str] = {}
    for split in splits.values():
        for files in split.values():
            folder = Path(files[0]).parent.resolve()
            for file in files:
                # Asking each file where it really is would take minutes on a large data set; only links need it.
                path = Path(file)
                real = str(path.resolve() if path.is_symlink() else folder / path.name)
                if real in seen:
                    raise ValueError(f"{seen[real]} and {file} are the same file; leave only one of them")
                seen[real] = file
