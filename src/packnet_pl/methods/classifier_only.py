"""The baseline that never forgets, and learns the least: only the first task trains the backbone."""

from torch import nn

from packnet_pl.training.classifier import TaskClassifier
from packnet_pl.training.still import Still

__all__ = ["ClassifierOnly"]


class ClassifierOnly(TaskClassifier):
    """From the second task on only the new head is trained, on features that stand still.

    The backbone is in eval mode then: its norms use the statistics of the first task, and it drops nothing out.

    Args:
        backbone: As for :class:`TaskClassifier`.
        num_features: As for :class:`TaskClassifier`.
    """

    def __init__(self, backbone: nn.Module, *, num_features: int | None = None) -> None:
        super().__init__(backbone, num_features=num_features, pack=False)
        self._still = Still()

    def begin_fit(self) -> None:
        """Holds the backbone still."""
        super().begin_fit()
        if len(self.tasks) > 1:
            self._still.begin(self.backbone.modules())

    def end_fit(self) -> None:
        """Lets the backbone go."""
        super().end_fit()
        self._still.end()
