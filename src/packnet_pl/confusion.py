"""Which classes of a task are taken for which: counts over its test split, and images of the most confused ones."""

from collections.abc import Iterator
from pathlib import Path

import msgspec

from packnet_pl.counting import counted
from packnet_pl.records import read_json, write_json

__all__ = ["ConfusedPair", "Confusion", "Example", "read_confusion", "write_confusion"]


class Example(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One image of the test split, as it was prepared for the network, before mean and standard deviation.

    Attributes:
        index: In the split, from 0.
        png: The file's bytes: 8 bits per channel, 96 pixels at most on the longer side (base64 in JSON).
    """

    index: int
    png: bytes


class ConfusedPair(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A class that is taken for another one.

    Attributes:
        actual: Index of the images' class.
        predicted: Index of the class that has the highest logit.
        images: How many of them there are.
        examples: The first of them in the split, two at most.
        reference: The first image of the class ``predicted``, to compare with; None if the split has none.
    """

    actual: int
    predicted: int
    images: int
    examples: tuple[Example, ...] = ()
    reference: Example | None = None


class Confusion(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The confusion matrix of a task: of each pair of classes that occurs, how many images there are.

    Attributes:
        after: The task that was finished last when this was measured.
        class_names: One per class.
        actual: Per entry, the index of the images' class; entries are ordered by it, then by ``predicted``.
        predicted: Per entry, the index of the class that has the highest logit.
        images: Per entry, how many images there are, 1 or more.
        pairs: The most confused pairs, most images first, then in the order of entries; empty where images have
            neither one nor three channels, or none is confused.
    """

    after: str
    class_names: tuple[str, ...]
    actual: tuple[int, ...]
    predicted: tuple[int, ...]
    images: tuple[int, ...]
    pairs: tuple[ConfusedPair, ...] = ()

    def __post_init__(self) -> None:
        """Checks that entries are whole, and name classes that exist.

        Raises:
            ValueError: Otherwise.
        """
        if not len(self.actual) == len(self.predicted) == len(self.images):
            raise ValueError("actual, predicted and images differ in length")
        named = [*self.actual, *self.predicted, *(c for pair in self.pairs for c in (pair.actual, pair.predicted))]
        if any(not 0 <= index < len(self.class_names) for index in named):
            raise ValueError(f"an entry is of none of its {counted(len(self.class_names), 'class')}")
        if not self.images or any(images < 1 for images in self.images):
            raise ValueError("an entry has no images, or there is none")

    def entries(self) -> Iterator[tuple[int, int, int]]:
        """Yields actual class, predicted class and number of images of each entry."""
        return zip(self.actual, self.predicted, self.images, strict=True)

    def confused(self) -> list[tuple[int, int, int]]:
        """Returns the entries of images that are taken for another class, most images first."""
        wrong = [entry for entry in self.entries() if entry[0] != entry[1]]
        return sorted(wrong, key=lambda entry: -entry[2])  # stable: equal ones stay in order

    @property
    def accuracy(self) -> float:
        """Top-1 accuracy in [0, 1]."""
        return sum(n for actual, predicted, n in self.entries() if actual == predicted) / sum(self.images)


def write_confusion(path: Path, confusion: Confusion) -> None:
    """Replaces the file as a whole."""
    write_json(path, confusion)


def read_confusion(path: Path) -> Confusion:
    """Returns what :func:`write_confusion` wrote.

    Raises:
        ValueError: If it is damaged, or something else.
        OSError: If it cannot be read.
    """
    try:
        return read_json(path, Confusion)
    except ValueError as error:
        raise ValueError(f"{path} is no confusion matrix, or is damaged: {error}") from error
