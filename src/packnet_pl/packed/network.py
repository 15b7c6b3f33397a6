"""The network of a packed file: one shared part and one head per task, with the right weights for each call."""

from collections import OrderedDict
from collections.abc import Mapping
from copy import deepcopy
from typing import overload

import torch
from torch import Tensor, nn

from packnet_pl.core import PackNet
from packnet_pl.core.module_modes import in_eval_mode
from packnet_pl.counting import counted
from packnet_pl.models import Heads, TaskInfo, as_input, with_head
from packnet_pl.packed.feature_statistics import FeatureStatistics
from packnet_pl.packed.narrow_tasks import name_widths_
from packnet_pl.packed.task_choice import choose_tasks, renormalised
from packnet_pl.packed.task_copy import TaskCopy

__all__ = ["PackedNetwork"]


class PackedNetwork(nn.Module):
    """Predicts for every task that was packed into it. For inference only: always in eval mode, and without gradients.

    Beside the shared part it has a copy with the weights of one task, which serves until another task is asked for and
    is written over then.

    Args:
        backbone: The shared part.
        heads: One head per task.
        packnet: Owners of the backbone's weights; None if no task owns any.
        networks: Task -> tensors of a whole backbone of its own, for every task; none if all tasks use all weights.
        statistics: Task -> statistics of the features that the first task's network has for its images, for as many
            tasks as have them.
    """

    def __init__(
        self,
        backbone: nn.Module,
        heads: Heads,
        packnet: PackNet | None,
        networks: Mapping[str, Mapping[str, Tensor]] | None = None,
        statistics: Mapping[str, FeatureStatistics] | None = None,
    ) -> None:
        super().__init__()
        self.statistics = dict(statistics or {})
        self.backbone, self.heads, self.packnet, self.networks = backbone, heads, packnet, dict(networks or {})
        self._copy = TaskCopy(packnet) if packnet is not None else None
        self._loaded: str | None = None
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

    @overload
    def forward(self, images: Tensor, *, task: str) -> Tensor: ...

    @overload
    def forward(self, images: Tensor, *, task: list[str] | tuple[str, ...]) -> list[Tensor]: ...

    @torch.no_grad()
    def forward(self, images: Tensor, *, task: str | list[str] | tuple[str, ...]) -> Tensor | list[Tensor]:
        """Returns logits.

        Args:
            images: N x C x H x W, normalised as ``info(task)`` says.
            task: One task for all images, or a list with the task of each. Images of one task form one
                batch, and the task that was asked for last comes first.

        Returns:
            N x classes for one task; for a list one vector per image, in the order of the images, as long as its
            task has classes.

        Raises:
            ValueError: If there is no such task, or not one task per image.
        """
        if isinstance(task, str):
            return self._logits(images, task)
        if len(task) != len(images):
            raise ValueError(
                f"{counted(len(task), 'task')} given for {counted(len(images), 'image')}; give one per image"
            )
        groups: dict[str, list[int]] = {name: [] for name in task}
        for index, name in enumerate(task):
            groups[name].append(index)
        for name in groups:
            self.heads.key(name)
        logits: dict[int, Tensor] = {}
        last = self._copy.task if self._copy is not None else self._loaded
        for name in sorted(groups, key=lambda name: name != last):
            logits |= zip(groups[name], self._logits(images[groups[name]], name), strict=True)
        return [logits[index] for index in range(len(images))]

    @torch.no_grad()
    def features(self, images: Tensor, *, task: str) -> Tensor:
        """Returns the feature vectors that the head of ``task`` gets, N x features.

        Args:
            images: N x C x H x W, normalised as ``info(task)`` says.
            task: Whose weights are used.

        Raises:
            ValueError: If there is no such task.
        """
        backbone = self.show(task)
        with in_eval_mode(backbone.modules()):
            features: Tensor = backbone(as_input(images, backbone))
        return features

    def which_task(self, images: Tensor) -> list[str]:
        """Returns the task that each image most likely belongs to: a guess, see :func:`choose_tasks`.

        Args:
            images: N x C x H x W, prepared and normalised as ``info(tasks[0])`` says; other tasks get them normalised
                as theirs.
        """
        first, taken = self.info(self.tasks[0]), dict[object, Tensor]()
        for info in map(self.info, self.tasks):
            taken.setdefault((info.mean, info.std), renormalised(images, first, info))
        whole = {task: taken[self.info(task).mean, self.info(task).std] for task in self.tasks}
        return [task for task, _ in choose_tasks(self, whole)]

    def standalone(self, task: str) -> nn.Module:
        """Returns a plain module, in eval mode, for this task alone: the other tasks' weights are zero in it.

        Networks of torchvision and timm get their last layer back, under its own name: the state dict is that of
        ``torchvision.models.get_model(name, num_classes=...)``. Others come as modules ``backbone`` and ``head``. Its
        logits are those of this network to the bit, but for timm's with two last layers (distilled ones, such as
        ``deit_tiny_distilled_patch16_224``), which differ in the last bits. So are those of the network that the
        library makes, with its state dict; where timm's last layer is a 1 x 1 convolution (DLA, DPN, FocalNet, BiT),
        that one differs in the last bits.

        Raises:
            ValueError: If there is no such task.
        """
        head = deepcopy(self.heads[task])
        assert isinstance(head, nn.Linear)
        if self.packnet is not None:
            backbone = TaskCopy(self.packnet).show(task)
            if task in self.packnet.state.shapes:
                name_widths_(backbone, head.in_features)
        else:
            backbone = deepcopy(self.backbone)
            if self.networks:
                backbone.load_state_dict(self.networks[task])
        whole = with_head(backbone, head)
        if whole is None and self.packnet is not None and task in self.packnet.state.shapes:
            backbone.builder = None  # type: ignore[assignment] # it builds the wide network
        return (whole or nn.Sequential(OrderedDict(backbone=backbone, head=head))).eval()

    def show(self, task: str) -> nn.Module:
        """Returns the shared part with the weights of ``task``; nothing is written if it has them already.

        It is one copy for all tasks: the next call for another task changes it.

        Raises:
            ValueError: If there is no such task.
        """
        self.heads.key(task)
        if self._copy is None:
            if self.networks and task != self._loaded:
                self._loaded = None  # a failure half-way leaves neither
                self.backbone.load_state_dict(self.networks[task])
                self._loaded = task
            return self.backbone
        return self._copy.show(task)

    def _logits(self, images: Tensor, task: str) -> Tensor:
        head, backbone = self.heads[task], self.show(task)
        with in_eval_mode([*backbone.modules(), *head.modules()]):
            logits: Tensor = head(backbone(as_input(images, backbone)))
        return logits
