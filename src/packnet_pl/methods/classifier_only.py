"""Feature extraction: only the first task trains the backbone, so that nothing is forgotten."""

from collections.abc import Mapping

from torch import nn

from packnet_pl.choices import Phase
from packnet_pl.methods.frozen_modules import FrozenModules
from packnet_pl.methods.unpruned import UnprunedClassifier
from packnet_pl.training.recipe import Recipe

__all__ = ["ClassifierOnly"]


class ClassifierOnly(UnprunedClassifier):
    """From the second task on only the new head is trained, on the features of a frozen backbone.

    The backbone is in eval mode then: its norms use the statistics of the first task, and it drops nothing out.

    Args:
        backbone: As for :class:`MultiHeadClassifier`.
        num_features: As for :class:`MultiHeadClassifier`.
        recipes: As for :class:`MultiHeadClassifier`.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        num_features: int | None = None,
        recipes: Mapping[Phase, Recipe] | None = None,
    ) -> None:
        super().__init__(backbone, num_features=num_features, recipes=recipes)
        self._frozen = FrozenModules()

    def begin_fit(self) -> None:
        """Freezes the backbone for the fit of a later task."""
        if len(self.tasks) > 1:
            self._frozen.freeze(self.backbone.modules())

    def end_fit(self) -> None:
        """Restores the gradients and modes of the backbone."""
        self._frozen.restore()
