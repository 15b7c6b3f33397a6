"""Scores of weights, of which the lowest are released first. A score of your own is a function such as these.

A score is made of the weights alone, when they are pruned, or of the gradients of each step before (``GradientScore``).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from packnet_pl.choices import check_choice
from packnet_pl.core.content_hash import content_hash

__all__ = ["GradientScore", "Score", "WeightScore", "magnitude", "misfit", "movement", "random", "taylor"]

WeightScore = Callable[[Tensor], Tensor]
"""From the weight of a layer to one finite score per entry: the same shape, a floating type."""


@dataclass(frozen=True)
class GradientScore:
    """A score that adds up over the steps of training; written over a function, it makes that one.

    Attributes:
        update: From what was added up so far (float32 or float64, the weight's shape; zeros before the first step), the
            weight and its gradient (both of the same type) to the new sum. What it is after the last step is the score.
        of_filter: What whole filters are ranked by: the L2 "norm" of their scores, or, where scores may be negative,
            their "sum".

    Raises:
        ValueError: If an argument is not allowed.
    """

    update: Callable[[Tensor, Tensor, Tensor], Tensor]
    of_filter: Literal["norm", "sum"] = "norm"

    def __post_init__(self) -> None:
        if not callable(self.update):
            raise ValueError(
                f"GradientScore was given {self.update!r}; it takes a function of sum, weight and gradient"
            )
        check_choice("of_filter", self.of_filter, ("norm", "sum"))

    def __call__(self, total: Tensor, weight: Tensor, gradient: Tensor) -> Tensor:
        """Returns the new sum."""
        return self.update(total, weight, gradient)

    @property
    def name(self) -> str:
        """What the score is called in messages and checkpoints: the name of its function."""
        return getattr(self.update, "__name__", type(self.update).__name__)


Score = WeightScore | GradientScore
"""What weights are ranked by."""


def magnitude(weight: Tensor) -> Tensor:
    """Returns the absolute value of each entry (paper, section 3.1, "Pruning")."""
    return weight.abs()


def random(weight: Tensor) -> Tensor:
    """Returns numbers drawn from [0, 1), by a generator that is seeded with a hash of the weight's bits.

    So they follow from the seed of the training, are others in each layer, and the same on all ranks and after a
    resume. A control: what any other score must be better than.
    """
    seed = int(content_hash(weight).rpartition(":")[2][:15], 16)
    drawn = torch.rand(weight.shape, generator=torch.Generator().manual_seed(seed), device="cpu")
    return drawn.to(weight.device)


def misfit(found: object, shape: torch.Size) -> str | None:
    """Returns what a score is instead of a float per entry, in words; None if it is one.

    Args:
        found: What the function of a score returned.
        shape: Of the weight.
    """
    if not isinstance(found, Tensor):
        return f"a {type(found).__name__}"
    return None if found.shape == shape and found.is_floating_point() else f"{found.dtype} {tuple(found.shape)}"


@partial(GradientScore, of_filter="sum")
def movement(total: Tensor, weight: Tensor, gradient: Tensor) -> Tensor:
    """Adds minus the gradient times the weight: what moves away from zero is worth most.

    Source: Sanh, Wolf & Rush, "Movement Pruning: Adaptive Sparsity by Fine-Tuning", NeurIPS 2020, equation 2.
    Filters by the sum of their scores: Lagunas et al., "Block Pruning For Faster Transformers", EMNLP 2021, section 3.
    """
    return total - gradient * weight


@GradientScore
def taylor(total: Tensor, weight: Tensor, gradient: Tensor) -> Tensor:
    """Adds the squared gradient times weight, about the squared change of the loss were the entry zero; as a root.

    Source: Molchanov et al., "Importance Estimation for Neural Network Pruning", CVPR 2019, equations 7 and 8. The root
    of the sum ranks as the sum does, and so does the norm of a filter's roots as the sum over the filter.
    """
    return torch.hypot(total, gradient * weight)
