"""Scores of weights, of which the lowest are released first. A score of your own is a function such as these."""

from collections.abc import Callable

from torch import Tensor

__all__ = ["Score", "magnitude"]

Score = Callable[[Tensor], Tensor]
"""From the weight of a layer to one finite score per entry: the same shape, a floating type."""


def magnitude(weight: Tensor) -> Tensor:
    """Returns the absolute value of each entry (paper, section 3.1, "Pruning")."""
    return weight.abs()
