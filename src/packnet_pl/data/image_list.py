"""The images of a split as paths, classes and boxes, and the validation split that is cut from a training split."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from packnet_pl.data.image_files import Box
from packnet_pl.data.seeding import derive_seed

__all__ = ["ImageList", "cut_validation"]


@dataclass(frozen=True)
class ImageList:
    """The images of a split.

    Attributes:
        paths: Of the files.
        labels: Class index of each, from 0.
        boxes: Of each, where the object is; None for data sets without boxes.
    """

    paths: list[str]
    labels: list[int]
    boxes: list[Box] | None = None

    @classmethod
    def of_classes(cls, classes: Mapping[str, Sequence[str]]) -> "ImageList":
        """Returns the images of class folders: class -> paths; the classes count from 0 in their order."""
        return cls(
            [path for paths in classes.values() for path in paths],
            [label for label, paths in enumerate(classes.values()) for _ in paths],
        )

    def take(self, indices: Sequence[int]) -> "ImageList":
        """Returns some of them."""
        boxes = None if self.boxes is None else [self.boxes[index] for index in indices]
        return ImageList([self.paths[index] for index in indices], [self.labels[index] for index in indices], boxes)


def cut_validation(
    train: ImageList, fraction: float, seed: int, class_names: Sequence[str], keys: Sequence[str | int], needed: str
) -> tuple[ImageList, ImageList]:
    """Returns what is left to train on and a validation split: of each class a share, but never none and never all.

    Args:
        train: The training split.
        fraction: Share of each class to validate on, in [0, 1). With 0 all images stay in training, and validation is
            a tenth of them.
        seed: Decides, with the key of the class, which images.
        class_names: One per class index, for the message.
        keys: One per class index; another key chooses other images.
        needed: What is needed where a class has one image, for the message.

    Raises:
        ValueError: If a class has only one image, and ``fraction`` is not 0.
    """
    of_class: dict[int, list[int]] = {}
    for index, label in enumerate(train.labels):
        of_class.setdefault(label, []).append(index)
    chosen: set[int] = set()
    for label, mine in of_class.items():
        if len(mine) < 2 and fraction:
            raise ValueError(f"class {class_names[label]!r} has one training image, {train.paths[mine[0]]}; {needed}")
        chosen |= {mine[index] for index in _held_out(len(mine), fraction or 0.1, seed, keys[label])} or {*mine}
    val = train.take(sorted(chosen))
    if fraction == 0:
        return train, val
    return train.take([index for index in range(len(train.paths)) if index not in chosen]), val


def _held_out(count: int, fraction: float, seed: int, key: str | int) -> set[int]:
    """Returns which of a class's ``count`` images are for validation: at least one, and never all."""
    chosen = min(max(round(count * fraction), 1), count - 1)
    generator = torch.Generator().manual_seed(derive_seed(seed, key))
    return set(torch.randperm(count, generator=generator)[:chosen].tolist())
