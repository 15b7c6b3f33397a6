"""Lists the images of class folders, and counts what lies beside them."""

import logging
import os
import unicodedata
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from packnet_pl.image_names import is_clutter, is_image_name
from packnet_pl.names import shown

__all__ = ["ClassListing", "Split", "aligned", "holds_something", "list_classes", "log_left_out"]

Split = dict[str, list[str]]
"""Class -> paths of its images, both sorted."""

_SHOWN_KINDS = 5
_log = logging.getLogger(__name__)


class ClassListing:
    """The classes and images of a folder of class folders, and the number of other files.

    Attributes:
        classes: Class -> paths of its images, both sorted.
        left_out: What is no image of a class -> how often it was found.
        loose: Number of images that lie beside the class folders.
    """

    def __init__(self) -> None:
        self.classes: Split = {}
        self.left_out: Counter[str] = Counter()
        self.loose = 0


def holds_something(folder: Path) -> bool:
    """Returns whether ``folder`` is there and not empty, clutter aside."""
    return folder.is_dir() and any(not is_clutter(name) for name in os.listdir(folder))  # noqa: PTH208


def list_classes(folder: Path) -> ClassListing:
    """Returns the images of each sub-folder of ``folder``; one pass, in which no file is opened.

    Raises:
        ValueError: If a link leads nowhere, the name of a class cannot be written down, or two folders have one name.
    """
    found = ClassListing()
    spelled: dict[str, str] = {}
    for entry in _visible(folder):
        if not entry.is_dir():
            found.loose += is_image_name(entry.name)
            found.left_out[_kind(entry.name, "beside the class folders")] += 1
            continue
        _check_name(entry, spelled)
        images = found.classes[entry.name] = []
        for file in _visible(entry.path):
            if file.is_dir():
                found.left_out.update(_deeper(file.path))
            elif is_image_name(file.name):
                images.append(file.path)
            else:
                found.left_out[_kind(file.name)] += 1
    return found


def aligned(splits: Mapping[str, Split]) -> dict[str, Split]:
    """Returns ``splits`` with the classes as the first one spells and sorts them; what only others have comes after.

    A Mac writes accents as characters of their own: copied from there, a folder has another name and looks the same.
    """
    known = {_composed(name): name for name in next(iter(splits.values()))}
    order = {name: index for index, name in enumerate(known.values())}
    found = {}
    for split, classes in splits.items():
        named = {known.get(_composed(name), name): files for name, files in classes.items()}
        found[split] = dict(sorted(named.items(), key=lambda item: (order.get(item[0], len(order)), item[0])))
    return found


def log_left_out(root: Path, listings: Mapping[str, ClassListing]) -> None:
    """Logs in one line what was left out, if anything was.

    Args:
        root: The folder of the data set.
        listings: Of its splits.
    """
    total: Counter[str] = sum((listing.left_out for listing in listings.values()), Counter())
    if total:
        most = total.most_common(_SHOWN_KINDS)
        rest = total.total() - sum(count for _, count in most)
        kinds = [f"{kind} ({count:,})" for kind, count in [*most, *([("others", rest)] if rest else [])]]
        _log.warning("left out in %s, as no image directly in a class folder: %s", shown(root), ", ".join(kinds))


def _visible(folder: str | os.PathLike[str]) -> Iterator[os.DirEntry[str]]:
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if is_clutter(entry.name):
                continue
            if entry.is_symlink() and not os.path.exists(entry.path):  # noqa: PTH110
                raise ValueError(f"{entry.path} is a link that leads nowhere; mend it or delete it")
            yield entry


def _check_name(entry: os.DirEntry[str], spelled: dict[str, str]) -> None:
    if shown(entry.name) != entry.name:
        raise ValueError(
            f"the class folder {shown(entry.path)} has a name that is not valid Unicode (UTF-8) or holds control "
            "characters, and it would have to be written into results and packed files: rename it"
        )
    other = spelled.setdefault(_composed(entry.name), entry.name)
    if other != entry.name:
        raise ValueError(
            f"the class folders {other!a} and {entry.name!a} of {shown(Path(entry.path).parent)} are one "
            f"name, '{entry.name}', written in two ways; put their images into one folder"
        )


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _deeper(folder: str) -> Counter[str]:
    """Counts the images of a folder inside a class folder; its other files do not count."""
    inside = sum(is_image_name(name) and not is_clutter(name) for _, _, files in os.walk(folder) for name in files)
    return Counter({"images in folders inside class folders": inside}) if inside else Counter()


def _kind(name: str, where: str = "") -> str:
    if is_image_name(name):
        return f"images {where}".strip()
    return shown(Path(name).suffix.lower()) or "without an ending"
