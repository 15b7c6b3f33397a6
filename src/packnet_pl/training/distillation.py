"""Distillation: a network learns what another one predicts, beside the labels."""

from copy import deepcopy
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor, nn
from torch.nn.functional import cross_entropy, kl_div

__all__ = ["Distillation", "distillation_loss", "frozen_copy"]

_Module = TypeVar("_Module", bound=nn.Module)


def distillation_loss(logits: Tensor, before: Tensor, temperature: float) -> Tensor:
    """Returns the cross-entropy between two softened predictions, mean over the batch.

    With p = softmax(before / T) and q = softmax(logits / T) it is -sum(p log q): equations 2 and 3 of Li & Hoiem,
    "Learning without Forgetting", ECCV 2016, in which probabilities to the power of 1 / T are normalised, which is the
    same.

    Args:
        logits: Of the network that learns, N x classes.
        before: Of the network before it began, the same shape.
        temperature: T, above 0; higher ones heed small probabilities more.
    """
    return cross_entropy(logits / temperature, (before / temperature).softmax(dim=1))


@dataclass(frozen=True)
class Distillation:
    """A loss, and beside it how far predictions are from those of a teacher.

    With p = softmax(teacher / T) and q = softmax(logits / T) it is (1 - a) * loss + a * T^2 * KL(p || q): Hinton,
    Vinyals & Dean, "Distilling the Knowledge in a Neural Network", 2015, section 2. T^2 leaves the share of the
    gradients what it is when T changes.

    Attributes:
        weight: a, in [0, 1]; 1 heeds the teacher alone.
        temperature: T, above 0; higher ones heed small probabilities more.

    Raises:
        ValueError: If one is out of range.
    """

    weight: float
    temperature: float = 2.0

    def __post_init__(self) -> None:
        """Checks the ranges.

        Raises:
            ValueError: If one is left.
        """
        if not (isinstance(self.weight, (int, float)) and 0 <= self.weight <= 1):
            raise ValueError(f"the weight of distillation is {self.weight!r}; allowed is a number in [0, 1]")
        if not (isinstance(self.temperature, (int, float)) and 0 < self.temperature < float("inf")):
            raise ValueError(f"temperature is {self.temperature!r}; allowed is a finite number above 0")

    def __call__(self, loss: Tensor, logits: Tensor, teacher: Tensor) -> Tensor:
        """Returns both losses together, a scalar.

        Args:
            loss: Of the labels, a scalar.
            logits: Of the network that learns, N x classes.
            teacher: Those of its teacher for the same images, the same shape.
        """
        soft, target = ((values / self.temperature).log_softmax(dim=1) for values in (logits, teacher))
        distance = kl_div(soft, target, reduction="batchmean", log_target=True)
        return (1 - self.weight) * loss + self.weight * self.temperature**2 * distance


def frozen_copy(module: _Module) -> _Module:
    """Returns a copy of ``module`` in eval mode that learns nothing."""
    return deepcopy(module).requires_grad_(False).eval()
