"""The classifier of PackNet: one backbone whose weights are divided among the tasks."""

from collections.abc import Mapping
from contextlib import AbstractContextManager

from torch import nn

from packnet_pl.choices import Keeping, Phase, Prunable
from packnet_pl.core import PackNet, PrunableRule
from packnet_pl.training.callback import PackNetCallback
from packnet_pl.training.multi_head import MultiHeadClassifier
from packnet_pl.training.packnet_checkpoint import PackNetMixin
from packnet_pl.training.recipe import Recipe

__all__ = ["TaskClassifier"]


class TaskClassifier(PackNetMixin, MultiHeadClassifier):
    """Image classification, task after task, in one network whose finished tasks are never forgotten.

    Args:
        backbone: The part that all tasks share: images in (N x C x H x W), feature vectors (N x ``num_features``) out.
        num_features: Length of the feature vectors; None asks ``backbone.num_features``.
        recipes: Phase -> recipe; it may be replaced before each task.
        norm: "shared" or "per_task": see :class:`PackNet`.
        bias: "shared" or "per_task", likewise.
        prunable: "weights", "paper", "all" or a function, likewise.

    Attributes:
        packnet: Who owns the weights of the backbone.
        selected_task: The task that is trained, validated and tested; None before the first :meth:`add_task`.

    Raises:
        ValueError: If the number of features is unknown, or an argument is not allowed.
    """

    packnet: PackNet

    def __init__(
        self,
        backbone: nn.Module,
        *,
        num_features: int | None = None,
        recipes: Mapping[Phase, Recipe] | None = None,
        norm: Keeping = "shared",
        bias: Keeping = "shared",
        prunable: Prunable | PrunableRule = "weights",
    ) -> None:
        super().__init__(backbone, num_features=num_features, recipes=recipes)
        self.packnet = PackNet(backbone, prunable=prunable, norm=norm, bias=bias)

    @property
    def phase(self) -> Phase:
        """Phase of the open task, or the first one."""
        return self.packnet.phase or "train"

    def private_modules(self, task: str) -> list[str]:
        """Returns the names of the modules that only ``task`` uses: its head."""
        return [f"heads.{self.heads.key(task)}"]

    def finished_view(self, task: str) -> AbstractContextManager[None] | None:
        """Returns a context in which the backbone is the subnetwork of ``task``; None if it is not finished."""
        return self.packnet.subnetwork(task) if task in self.packnet.tasks else None

    def setup(self, stage: str) -> None:
        """Refuses a fit without a task, or without a PackNetCallback.

        Raises:
            ValueError: If no task is selected, or the fit has no PackNetCallback.
        """
        super().setup(stage)
        callbacks = self.trainer.callbacks  # type: ignore[attr-defined]
        if stage == "fit" and not any(isinstance(callback, PackNetCallback) for callback in callbacks):
            raise ValueError(
                "this fit has no PackNetCallback, so it would train over finished tasks: give the Trainer "
                f"callbacks=[PackNetCallback(task={self.selected_task!r}, phase='train', prune_ratio=...)]"
            )
