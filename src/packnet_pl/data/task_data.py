"""The data of one task: three splits, class names, and how images become their items."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset, TensorDataset

from packnet_pl.data.inventory import Inventory, take_inventory
from packnet_pl.names import check_class_names
from packnet_pl.preparation import Preparation

__all__ = ["DRAWN", "ImageDataset", "TaskData", "draws_random_numbers", "image_tensors", "unaugmented"]

ImageDataset = Dataset[tuple[Tensor, ...]]

DRAWN = Preparation("L", (24, 24), shorter_side=24)
"""Of the embedded tasks, which come from no files: one of their images, saved and read, is what it was."""


@dataclass(frozen=True)
class TaskData:
    """The splits of one task; an item is a normalised image (float, C x H x W) and its class index (int64).

    A split may have three attributes: ``random`` (bool), whether its items draw random numbers, which they must take
    from torch; ``labels`` (sequence of int), the class index of each item; and ``unaugmented``, the split without what
    its items draw, for statistics that are of the images themselves.

    Attributes:
        train: For learning.
        val: For every choice: it shares nothing with ``test``.
        test: Only for the figures that are reported.
        class_names: One name per class index, no two alike.
        input_shape: Channels, height, width in pixels.
        mean: Per channel, subtracted from pixel values in [0, 1].
        std: Per channel, divides what is left.
        preparation: How an image file becomes what an item is before mean and standard deviation; None if unknown.

    Raises:
        ValueError: If two classes have one name, a name cannot be written down, or the preparation gives another shape.
    """

    train: ImageDataset
    val: ImageDataset
    test: ImageDataset
    class_names: tuple[str, ...]
    input_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    preparation: Preparation | None = None

    def __post_init__(self) -> None:
        check_class_names(self.class_names)
        if self.preparation is not None and self.preparation.input_shape != tuple(self.input_shape):
            raise ValueError(
                f"input_shape is {tuple(self.input_shape)}, and the preparation of images gives "
                f"{self.preparation.input_shape}; give both alike"
            )

    @property
    def splits(self) -> dict[str, ImageDataset]:
        """Returns "train", "val" and "test" -> the split."""
        return {"train": self.train, "val": self.val, "test": self.test}

    @cached_property
    def inventory(self) -> Inventory:
        """The contents of the splits, as they were at the first use."""
        return take_inventory(self.class_names, self.splits)

    def take(self, fraction: float) -> "TaskData":
        """Returns the same task on a share of each split, evenly spaced, for trials.

        Of a split that has ``labels`` each class keeps at least one sample.

        Args:
            fraction: In (0, 1].

        Raises:
            ValueError: If ``fraction`` is outside (0, 1].
        """
        if not 0 < fraction <= 1:
            raise ValueError(f"data fraction is {fraction!r}; allowed is a number in (0, 1]")
        if fraction == 1:
            return self
        train, val, test = (_thin(split, fraction) for split in (self.train, self.val, self.test))
        return replace(self, train=train, val=val, test=test)


def image_tensors(images: Tensor, labels: Tensor, mean: float, std: float) -> TensorDataset:
    """Returns a data set of grey images.

    Args:
        images: uint8, N x H x W.
        labels: int64, N.
        mean: Subtracted from pixel values in [0, 1].
        std: Divides what is left.
    """
    return TensorDataset((images.unsqueeze(1).float() / 255 - mean) / std, labels)


def draws_random_numbers(split: Any) -> bool:
    """Returns whether the items of ``split``, or of what it is a subset of, are random: see :class:`TaskData`."""
    while isinstance(split, Subset):
        split = split.dataset
    return bool(getattr(split, "random", False))


def unaugmented(split: Any) -> Any:
    """Returns ``split`` without what its items draw, where it has that (see :class:`TaskData`); else itself."""
    if not isinstance(split, Subset):
        return getattr(split, "unaugmented", split)
    plain = unaugmented(split.dataset)
    return split if plain is split.dataset else Subset(plain, split.indices)


def _thin(dataset: Any, fraction: float) -> ImageDataset:
    groups: dict[int, list[int]] = {}
    # Evenly spaced over a split that is sorted by class keeps the classes balanced also where they are not known.
    for index, label in enumerate(getattr(dataset, "labels", [0] * len(dataset))):
        groups.setdefault(int(label), []).append(index)
    return Subset(dataset, [index for group in groups.values() for index in _spaced(group, fraction)])


def _spaced(indices: Sequence[int], fraction: float) -> list[int]:
    keep = max(1, round(len(indices) * fraction))
    return [indices[step] for step in torch.linspace(0, len(indices) - 1, keep).round().long().tolist()]
