"""The network that a packed file holds: one shared part, one head per task, the right weights for each question."""

from collections import OrderedDict
from copy import deepcopy

import torch
from torch import Tensor, nn

from packnet_pl.core import PackNet
from packnet_pl.core.norms import in_eval_mode
from packnet_pl.models import Heads, TaskInfo

__all__ = ["PackedNetwork"]


class PackedNetwork(nn.Module):
    """Answers for every task that was packed into it. For inference only: always in eval mode, and without gradients.

    Args:
        backbone: The shared part.
        heads: One head per task.
        packnet: Owners of the backbone's weights; None if all tasks use all weights.
    """

    def __init__(self, backbone: nn.Module, heads: Heads, packnet: PackNet | None) -> None:
        super().__init__()
        self.backbone, self.heads, self.packnet = backbone, heads, packnet
        self.eval()

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks, in the order in which they were learned."""
        return list(self.heads.infos)

    def info(self, task: str) -> TaskInfo:
        """Returns the classes, input size and normalisation of ``task``.

        Raises:
            ValueError: If there is no such task.
        """
        self.heads.key(task)
        return self.heads.infos[task]

    @torch.no_grad()
    def forward(self, pictures: Tensor, *, task: str) -> Tensor:
        """Returns logits (N x classes of ``task``) of ``pictures`` (N x C x H x W, normalised as ``info(task)`` says).

        Raises:
            ValueError: If there is no such task.
        """
        head = self.heads[task]
        with in_eval_mode(self.modules()):
            if self.packnet is None:
                answer: Tensor = head(self.backbone(pictures))
            else:
                with self.packnet.subnetwork(task):
                    answer = head(self.backbone(pictures))
        return answer

    def standalone(self, task: str) -> nn.Module:
        """Returns a plain module, in eval mode, with modules ``backbone`` and ``head``, for this task alone.

        The other tasks' weights are zero in it.

        Raises:
            ValueError: If there is no such task.
        """
        head = deepcopy(self.heads[task])
        if self.packnet is None:
            backbone = deepcopy(self.backbone)
        else:
            with self.packnet.subnetwork(task):
                backbone = deepcopy(self.backbone)
        return nn.Sequential(OrderedDict(backbone=backbone, head=head)).eval()
