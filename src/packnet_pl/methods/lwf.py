"""Learning without Forgetting: distillation ties the old tasks' logits to what they were before a new task.

Source: Li & Hoiem, "Learning without Forgetting", ECCV 2016, equations 2 to 4; with temperature 2 the baseline of the
PackNet paper.
"""

from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from packnet_pl.choices import Phase, check_choice
from packnet_pl.core.module_modes import is_norm
from packnet_pl.methods.frozen_modules import FrozenModules
from packnet_pl.methods.unpruned import UnprunedClassifier
from packnet_pl.models import Heads
from packnet_pl.training.distillation import distillation_loss, frozen_copy
from packnet_pl.training.recipe import Recipe

__all__ = ["LearningWithoutForgetting", "distillation_loss"]

Norms = Literal["trained", "frozen"]


class LearningWithoutForgetting(UnprunedClassifier):
    """Trains all weights on the new task, while the old heads' logits on its images are held where they were.

    The loss is the new task's cross-entropy plus ``weight`` times the sum of the old tasks' distillation losses. Old
    heads go on learning, as in the paper; its warm-up of the new head alone is left out, as in the PackNet paper.

    Args:
        backbone: As for :class:`MultiHeadClassifier`.
        num_features: As for :class:`MultiHeadClassifier`.
        recipes: As for :class:`MultiHeadClassifier`.
        weight: Of the distillation, 0 or more; 0 is sequential fine-tuning: old heads learn nothing then.
        temperature: Of the distillation, above 0.
        norms: "trained", or "frozen": from the second task on norms (parameters and statistics) are. A control:
            much of what this method forgets are the statistics.

    Raises:
        ValueError: If an argument is not allowed.
    """

    def __init__(
        self,
        backbone: nn.Module,
        *,
        num_features: int | None = None,
        recipes: Mapping[Phase, Recipe] | None = None,
        weight: float = 1.0,
        temperature: float = 2.0,
        norms: Norms = "trained",
    ) -> None:
        super().__init__(backbone, num_features=num_features, recipes=recipes)
        if not (isinstance(weight, (int, float)) and 0 <= weight < float("inf")):
            raise ValueError(f"weight is {weight!r}; allowed is a finite number, 0 or more")
        if not (isinstance(temperature, (int, float)) and 0 < temperature < float("inf")):
            raise ValueError(f"temperature is {temperature!r}; allowed is a finite number above 0")
        check_choice("norms", norms, get_args(Norms))
        self.weight, self.temperature, self.norms = weight, temperature, norms
        self._frozen = FrozenModules()
        # In a list, so that the old network is no part of this one: not in its state dict, nor among its parameters.
        self._before: list[tuple[nn.Module, Heads]] = []

    @property
    def old_tasks(self) -> list[str]:
        """The tasks whose logits are distilled: all but the selected one."""
        return [task for task in self.tasks if task != self.selected_task]

    def begin_fit(self) -> None:
        """Copies the network as it is now, and turns on the gradients of the old heads."""
        if self.old_tasks and self.norms == "frozen":
            self._frozen.freeze(layer for layer in self.backbone.modules() if is_norm(layer))
        if self.old_tasks and self.weight:
            self._before = [(frozen_copy(self.backbone), frozen_copy(self.heads))]
            self.heads.requires_grad_(True)

    def on_fit_start(self) -> None:
        """Moves the old network to where the new one is, in its type."""
        assert isinstance(self.dtype, torch.dtype)
        for before in self._before:
            for module in before:
                module.to(self.device, self.dtype)

    def end_fit(self) -> None:
        """Drops the copy, and leaves the gradients of the selected head alone on."""
        self._before = []
        self._frozen.restore()
        if self.selected_task is not None:
            self.select_task(self.selected_task)

    def loss_and_logits(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the loss of a batch and its logits; outside of training the loss is the cross-entropy alone.

        Old tasks are distilled on the images that the new one learns from, also where these are mixed.
        """
        if not (self.training and self._before):
            return super().loss_and_logits(images, labels)
        assert self.selected_task is not None
        features = self.backbone(images)
        logits: Tensor = self.heads[self.selected_task](features)
        before = self.logits_before(images)
        losses = [distillation_loss(self.heads[task](features), before[task], self.temperature) for task in before]
        return self.loss(logits, labels) + self.weight * torch.stack(losses).sum(), logits

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the network as it was before the task: a run that is resumed distils the same logits."""
        super().on_save_checkpoint(checkpoint)
        if self._before:
            backbone, heads = self._before[0]
            checkpoint["before"] = {"backbone": backbone.state_dict(), "heads": heads.state_dict()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Loads the network before the task from the checkpoint of a fit that resumes.

        Raises:
            ValueError: If it is not there.
        """
        super().on_load_checkpoint(checkpoint)
        if not self._before:
            return
        if "before" not in checkpoint:
            raise ValueError(
                f"the checkpoint does not hold the network as it was before task {self.selected_task!r}: it was not "
                "written by such a fit"
            )
        backbone, heads = self._before[0]
        backbone.load_state_dict(checkpoint["before"]["backbone"])
        heads.load_state_dict(checkpoint["before"]["heads"])

    @torch.no_grad()
    def logits_before(self, images: Tensor) -> dict[str, Tensor]:
        """Returns, for each old task, the logits that the network had for ``images`` before the fit began."""
        backbone, heads = self._before[0]
        features = backbone(images)
        return {task: heads[task](features) for task in self.old_tasks}
