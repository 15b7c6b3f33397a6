"""A pruning score: weights near the mean of their layer are released first."""

from torch import Tensor


def far_from_mean(weight: Tensor) -> Tensor:
    """Returns how far each entry is from the mean of all."""
    return (weight - weight.mean()).abs()
