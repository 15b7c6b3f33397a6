"""Joint training of all tasks on all images together: the upper bound of one network."""

import torch
from torch import Tensor

from packnet_pl.methods.unpruned import UnprunedClassifier

__all__ = ["JointClassifier"]


class JointClassifier(UnprunedClassifier):
    """Learns all tasks that it has, in one fit, on batches that mix them.

    A label says task and class: it counts the classes of all tasks in the order in which they were added. The logits of
    an image are those of its own task's head alone, so the loss is the mean over images of their tasks' cross-entropy.

    Args:
        backbone: As for :class:`MultiHeadClassifier`.
        num_features: As for :class:`MultiHeadClassifier`.
        recipes: As for :class:`MultiHeadClassifier`.
    """

    def begin_fit(self) -> None:
        """Turns on the gradients of all heads."""
        self.heads.requires_grad_(True)

    def end_fit(self) -> None:
        """Leaves the gradients of the selected head alone on."""
        if self.selected_task is not None:
            self.select_task(self.selected_task)

    def num_logits(self, task: str) -> int:
        """Returns the number of classes of all tasks together."""
        return sum(info.num_classes for info in self.heads.infos.values())

    def loss_and_logits(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the loss and logits over the classes of all tasks: minus infinity for those of other tasks."""
        features = self.backbone(images)
        # Every head computes for every image, so that each has a gradient in each process.
        logits = torch.cat([self.heads[task](features) for task in self.tasks], dim=1)
        counts = torch.tensor([info.num_classes for info in self.heads.infos.values()], device=labels.device)
        task_of_class = torch.arange(len(counts), device=labels.device).repeat_interleave(counts)
        others = task_of_class[labels].unsqueeze(1) != task_of_class
        logits = logits.masked_fill(others, -torch.inf)
        return self.loss(logits, labels), logits
