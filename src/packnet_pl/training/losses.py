"""The loss of a classifier: cross-entropy with smoothed labels, and with a weight for each class."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

__all__ = ["ClassificationLoss"]


@dataclass(frozen=True)
class ClassificationLoss:
    """Cross-entropy of logits and targets, as torch computes it, wherever and in whatever type the logits are.

    Attributes:
        label_smoothing: Share of each target that is spread over all classes, in [0, 1].
        class_weights: One per class; None: all count alike. Of class indices torch divides by the sum of their weights,
            of probabilities by the number of images.
    """

    label_smoothing: float = 0.0
    class_weights: tuple[float, ...] | None = None

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Returns the mean loss of a batch, a scalar.

        Args:
            logits: N x classes.
            targets: Class indices (int64, N), or probabilities (N x classes).
        """
        weight = None
        if self.class_weights is not None:
            weight = torch.tensor(self.class_weights, dtype=logits.dtype, device=logits.device)
        return cross_entropy(logits, targets, weight=weight, label_smoothing=self.label_smoothing)
