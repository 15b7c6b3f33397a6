"""A pruning score of gradients: weights whose gradients were small are released first."""

from torch import Tensor

from packnet_pl.core import GradientScore


@GradientScore
def steady(total: Tensor, weight: Tensor, gradient: Tensor) -> Tensor:
    """Adds the absolute gradient of a step."""
    return total + gradient.abs()
