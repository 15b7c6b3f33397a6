"""Class indices of a split without reading its images, and the weights that make its classes count alike."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Subset, TensorDataset

__all__ = ["class_labels", "class_weights"]


def class_labels(split: Any) -> Tensor:
    """Returns the class index (int64) of each item of ``split``, without reading one.

    Args:
        split: A data set with ``labels``, one of tensors, or a subset of one.

    Raises:
        ValueError: If it does not name them.
    """
    if isinstance(split, Subset):
        return class_labels(split.dataset)[torch.tensor(split.indices, dtype=torch.int64)]
    if isinstance(split, TensorDataset):
        return split.tensors[1]
    if not hasattr(split, "labels"):
        raise ValueError(
            f"balancing classes needs the class of each image, and {type(split).__name__} has no labels: give it an "
            "attribute labels, the class index of each item"
        )
    return torch.as_tensor(split.labels, dtype=torch.int64)


def class_weights(labels: Tensor, num_classes: int) -> Tensor:
    """Returns N / (K * n) for each class: N items, K classes, n of them of the class; 1 where all have as many.

    Args:
        labels: int64, N.
        num_classes: K; a class without items counts as if it had one.
    """
    counts = torch.bincount(labels, minlength=num_classes).clamp(min=1)
    return len(labels) / (num_classes * counts.double())
