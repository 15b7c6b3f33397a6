"""A method: PackNet, trained with smoothed labels."""

from typing import Any

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from packnet_pl import TaskClassifier


class SmoothedClassifier(TaskClassifier):
    """A classifier whose loss takes a share of each label and spreads it over all classes.

    Args:
        backbone: As for ``TaskClassifier``.
        smoothing: That share, in [0, 1].
        settings: As for ``TaskClassifier``.
    """

    def __init__(self, backbone: nn.Module, *, smoothing: float, **settings: Any) -> None:
        super().__init__(backbone, **settings)
        self.smoothing = smoothing

    def loss_and_logits(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the smoothed loss of a batch and its logits (N x classes)."""
        logits = self(images)
        return cross_entropy(logits, labels, label_smoothing=self.smoothing), logits
