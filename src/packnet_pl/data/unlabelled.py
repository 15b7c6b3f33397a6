"""A batch that counts nowhere: where processes compute together, one that has none left computes with it."""

from typing import Any

from torch import Tensor
from torch.utils.data import Dataset, default_collate

from packnet_pl.data.task_data import ImageDataset

__all__ = ["UNLABELLED", "Unlabelled", "collate_unlabelled"]

UNLABELLED = -1
"""Index of an image without a label, and the label that stands for none."""


class Unlabelled(Dataset[tuple[Tensor, ...]]):
    """A split with one more image, its first one, at index :data:`UNLABELLED`.

    Args:
        split: Its images.
    """

    def __init__(self, split: ImageDataset) -> None:
        self._split = split

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        image, label = self._split[max(index, 0)]
        return image, (UNLABELLED if index == UNLABELLED else label)

    def __len__(self) -> int:
        return len(self._split)  # type: ignore[arg-type]


def collate_unlabelled(items: list[Any]) -> tuple[Tensor, Tensor]:
    """Returns the images of a batch, and their labels: none of an image that has none."""
    images, labels = default_collate(items)
    return images, labels[labels != UNLABELLED]
