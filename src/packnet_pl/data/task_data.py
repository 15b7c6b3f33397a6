"""The data of one task: three splits and what a reader of its predictions needs to know."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset, TensorDataset

__all__ = ["ImageDataset", "TaskData", "image_tensors"]

ImageDataset = Dataset[tuple[Tensor, ...]]


@dataclass(frozen=True)
class TaskData:
    """The splits of one task; an item is a normalised image (float, C x H x W) and its class index (int64).

    Attributes:
        train: For learning.
        val: For every choice: it shares nothing with ``test``.
        test: Only for the figures that are reported.
        class_names: One name per class index.
        input_shape: Channels, height, width in pixels.
        mean: Per channel, subtracted from pixel values in [0, 1].
        std: Per channel, divides what is left.
    """

    train: ImageDataset
    val: ImageDataset
    test: ImageDataset
    class_names: tuple[str, ...]
    input_shape: tuple[int, int, int]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def take(self, fraction: float) -> "TaskData":
        """Returns the same task on a share of each split, evenly spaced, for trials.

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


def image_tensors(images: Tensor, labels: Tensor, mean: float, std: float) -> ImageDataset:
    """Returns a data set of grey images.

    Args:
        images: uint8, N x H x W.
        labels: int64, N.
        mean: Subtracted from pixel values in [0, 1].
        std: Divides what is left.
    """
    return TensorDataset((images.unsqueeze(1).float() / 255 - mean) / std, labels)


def _thin(dataset: Any, fraction: float) -> ImageDataset:
    size: int = len(dataset)
    keep = max(1, round(size * fraction))
    # Evenly spaced over a split that is sorted by class keeps the classes balanced.
    indices: Sequence[int] = torch.linspace(0, size - 1, keep).round().long().tolist()
    return Subset(dataset, indices)
