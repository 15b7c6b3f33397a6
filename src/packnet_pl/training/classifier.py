"""The classifier of PackNet: one backbone whose weights are divided among the tasks."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from packnet_pl.choices import Keeping, Phase, Prunable
from packnet_pl.core import PackNet, PrunableRule
from packnet_pl.models import as_input, wider_backbone
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

    def grow(self, factor: float) -> None:
        """Makes room for more tasks: the backbone widens, and finished tasks predict the same, to the bit.

        New weights are random (from the global generator). Heads of later tasks take more features.

        Args:
            factor: Above 1; widths are rounded: see :func:`packnet_pl.models.wider_builder`.

        Raises:
            RuntimeError: As :meth:`PackNet.grow`.
            ValueError: If the factor is not allowed, or the network cannot grow.
        """
        wider: Any = wider_backbone(self.backbone, factor)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            example = as_input(torch.rand(4, *self._input_shape()), self.backbone)
        self.backbone = self.packnet.grow(wider, example=example.to(self.device), root=self)
        self.heads.num_features = wider.num_features

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the tasks, the state of PackNet, and what a backbone that has grown is built of."""
        super().on_save_checkpoint(checkpoint)
        builder = getattr(self.backbone, "builder", None)
        if self.packnet.state.shapes and builder is not None:
            checkpoint["backbone"] = builder

    def private_modules(self, task: str) -> list[str]:
        """Returns the names of the modules that only ``task`` uses: its head."""
        return [f"heads.{self.heads.key(task)}"]

    def finished_view(self, task: str) -> AbstractContextManager[None] | None:
        """Returns a context in which the backbone is the subnetwork of ``task``; None if it is not finished."""
        return self.packnet.subnetwork(task) if task in self.packnet.tasks else None

    def open_view(self, task: str) -> AbstractContextManager[None]:
        """Returns a context in which the backbone has what ``task`` uses, if it is open and has a mask."""
        return self.packnet.masked() if task == self.packnet.open_task else nullcontext()

    def _input_shape(self) -> tuple[int, ...]:
        known = [info.input_shape for info in self.heads.infos.values() if info.input_shape]
        if known:
            return known[-1]
        arguments: Any = self.backbone.builder["arguments"]  # type: ignore[index]
        side = arguments.get("image_size") or 32
        return (arguments["in_channels"], side, side)

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
