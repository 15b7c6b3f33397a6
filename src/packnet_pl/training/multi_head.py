"""A backbone with one linear head per task: the classifier that PackNet and every method compared with it build on."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from packnet_pl.choices import Phase, check_task_name
from packnet_pl.core import PackNet
from packnet_pl.core.conversion import take_types_
from packnet_pl.core.module_modes import in_eval_mode
from packnet_pl.core.shards import reshard_
from packnet_pl.models import (
    Heads,
    HeadStart,
    Preparation,
    TaskInfo,
    as_input,
    build_backbone,
    head_values,
    input_type,
    tasks_of,
)
from packnet_pl.training.classification_steps import ClassificationSteps
from packnet_pl.training.families import warn_if_both
from packnet_pl.training.recipe import Recipe
from packnet_pl.training.sharding import is_sharded, shard_with_owners_
from packnet_pl.training.strategy_hooks import StrategyHooks, loads_late
from packnet_pl.training.teacher import DenseTeacher

__all__ = ["MultiHeadClassifier"]


class MultiHeadClassifier(ClassificationSteps):
    """Image classification, task after task: one backbone, one head per task, one task trained at a time.

    A method overrides :meth:`loss_and_logits` if it learns from another loss, and :meth:`finished_view` if the backbone
    computes otherwise for a finished task than as it is now.

    Args:
        backbone: Images in (N x C x H x W), feature vectors (N x ``num_features``) out.
        num_features: Length of the feature vectors; None asks ``backbone.num_features``.
        recipes: Phase -> recipe; it may be replaced before each task.

    Attributes:
        packnet: Who owns the weights of the backbone; None if no task does.
        selected_task: The task that is trained, validated and tested; None before the first :meth:`add_task`.
        phases: Of a task, where a method prunes nothing; the last one finishes it.
        teacher: The dense network of the task that is retrained, if a recipe distils from it.

    Raises:
        ValueError: If the number of features is unknown.
    """

    packnet: PackNet | None = None
    phases: tuple[Phase, ...] = ("train",)

    def __init__(
        self,
        backbone: nn.Module,
        *,
        num_features: int | None = None,
        recipes: Mapping[Phase, Recipe] | None = None,
    ) -> None:
        super().__init__()
        num_features = num_features if num_features is not None else getattr(backbone, "num_features", None)
        if not isinstance(num_features, int):
            raise ValueError(
                f"{type(backbone).__name__} has no num_features (found {num_features!r}); "
                "give the length of its output as num_features="
            )
        warn_if_both(type(self))
        self.backbone = backbone
        self.heads = Heads(num_features)
        self.recipes: Mapping[Phase, Recipe] = recipes or {"train": Recipe(), "retrain": Recipe()}
        self.selected_task: str | None = None
        self._hooks: StrategyHooks | None = None
        self.teacher = DenseTeacher(_selected_network)

    @property
    def distils(self) -> bool:
        """Whether phase "retrain" learns from the dense network."""
        return "retrain" in self.recipes and self.recipes["retrain"].distillation is not None

    def configure_callbacks(self) -> list[pl.Callback]:
        """Returns the callback that copies the dense network, if phase "retrain" is to learn from it."""
        return [self.teacher] if self.distils else []

    @property
    def tasks(self) -> list[str]:
        """Names of all tasks that have a head, in the order in which they were added."""
        return list(self.heads.infos)

    def add_task(
        self,
        name: str,
        *,
        num_classes: int,
        class_names: Sequence[str] = (),
        input_shape: Sequence[int] = (),
        mean: Sequence[float] = (),
        std: Sequence[float] = (),
        preparation: Preparation | None = None,
        head: HeadStart = "new",
    ) -> None:
        """Adds a head for a new task and selects it.

        Args:
            name: A new name; any printable one without "/".
            num_classes: 2 or more.
            class_names: One per class, if known.
            input_shape: Channels, height, width of an image in pixels, if known.
            mean: Per channel, what the images were normalised with, if known.
            std: Per channel, likewise.
            preparation: How image files become pixels of this shape, if known.
            head: "new" is random; "pretrained" is the classifier that the backbone's weights came with, and needs a
                backbone from a builder with ``pretrained``.

        Raises:
            ValueError: If the task exists already, an argument is not allowed, or there is no such classifier.
        """
        info = TaskInfo(num_classes, tuple(class_names), tuple(input_shape), tuple(mean), tuple(std), preparation)
        values = head_values(head, self.backbone, num_classes)
        self.heads.add(check_task_name(name), info, values).to(self.device, input_type(self.backbone))
        self.select_task(name)

    def select_task(self, name: str) -> None:
        """Makes ``name`` the task to train, validate and test.

        Raises:
            ValueError: If there is no such task.
        """
        key = self.heads.key(name)
        reshard_(self.heads)
        for other, head in self.heads.named_children():
            # An unused head that needs gradients would make DDP wait for them.
            head.requires_grad_(other == key)
        self.selected_task = name
        self.new_metrics(self.num_logits(name))

    def num_logits(self, task: str) -> int:
        """Returns how many logits :meth:`loss_and_logits` gives for an image in a fit of ``task``."""
        return self.heads.infos[task].num_classes

    def finished_view(self, task: str) -> AbstractContextManager[None] | None:
        """Returns a context in which the backbone computes as when ``task`` was finished.

        None where there is no such thing: the task is not finished, or the method trained on and forgot.
        """
        return None

    def open_view(self, task: str) -> AbstractContextManager[None]:
        """Returns a context in which the backbone computes as a task that is not finished does: as it is, mostly."""
        return nullcontext()

    @contextmanager
    def predicting(self, task: str) -> Iterator[Callable[[Tensor], Tensor]]:
        """Yields a function from images to logits of ``task``, in eval mode; restores every module's mode.

        The logits of a finished task are those that it had when it was finished, bit for bit, if the method keeps them.

        Raises:
            ValueError: If there is no such task.
        """
        head = self.heads[task]

        def logits(images: Tensor) -> Tensor:
            return self._forward(head, images)

        reshard_(head)
        wanted = [(parameter, parameter.requires_grad) for parameter in head.parameters()]
        with in_eval_mode([*self.backbone.modules(), *head.modules()]):
            try:
                # As when it was trained: torch chooses kernels by it, and other kernels round otherwise.
                head.requires_grad_(True)
                with self.finished_view(task) or self.open_view(task):
                    yield logits
            finally:
                for parameter, requires_grad in wanted:
                    parameter.requires_grad_(requires_grad)

    def forward(self, images: Tensor, task: str | None = None) -> Tensor:
        """Returns logits (N x classes of the task) of ``images`` (N x C x H x W).

        Args:
            images: Normalised as for training.
            task: Whose logits; None is the selected task. Those of a finished task are what they were when it was
                finished, if the method keeps them; others are computed by the network as it is.

        Raises:
            ValueError: If there is no such task, or none at all.
        """
        task = task if task is not None else self.selected_task
        if task is None:
            raise ValueError("there is no task yet: add_task(name, num_classes=...) first")
        if self.finished_view(task) is None:
            return self._forward(self.heads[task], images)
        with self.predicting(task) as logits:
            return logits(images)

    def configure_model(self) -> None:
        """Divides backbone and heads among processes, under a strategy that asks for it."""
        if self.device_mesh is not None and loads_late(self.trainer):
            self._shard()
            self._hooks = StrategyHooks(self.trainer, before_loading=lambda _, found: self._take_tasks(found))

    def teardown(self, stage: str) -> None:
        """Removes its hooks from the strategy."""
        if self._hooks is not None:
            self._hooks.remove()
        self._hooks = None

    def setup(self, stage: str) -> None:
        """Refuses a fit without a task.

        Raises:
            ValueError: If no task is selected.
        """
        if stage == "fit" and self.selected_task is None:
            raise ValueError("there is no task to fit: add_task(name, num_classes=...) first")

    def loss_and_logits(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the loss of a batch (a scalar) and the selected task's logits (N x classes).

        It is that of :meth:`loss`; in training with distillation, from the same images, if the phase's recipe has it.

        Args:
            images: N x C x H x W.
            labels: int64, N; of a training batch whose images were mixed, probabilities, N x classes.
        """
        logits = self(images)
        loss = self.loss(logits, labels)
        distillation = self.recipes[self.phase].distillation if self.training else None
        if distillation is not None:
            loss = distillation(loss, logits, self.teacher(as_input(images, self.backbone)))
        return loss, logits

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the tasks."""
        checkpoint["tasks"] = {name: info.dump() for name, info in self.heads.infos.items()}
        checkpoint["selected_task"] = self.selected_task

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Rebuilds the heads in the checkpoint's order, so that any number of tasks loads into a freshly built module.

        So is a backbone that has grown, where a builder made it.

        Raises:
            ValueError: If such a classifier did not write it, its tasks are not those of this module, or its weights
                have owners and here they have none, or the other way round.
        """
        if not is_sharded(self):  # else it was done before the weights were loaded
            self._take_tasks(checkpoint)

    def _take_tasks(self, checkpoint: Mapping[str, Any]) -> None:
        infos, state = tasks_of(checkpoint, self.heads.infos), checkpoint.get("state_dict", {})
        if ("packnet" in checkpoint) != (self.packnet is not None):
            does = "says" if "packnet" in checkpoint else "does not say"
            raise ValueError(
                f"the checkpoint {does} which task owns which weight, so no {type(self).__name__} wrote it: load it "
                "into the class that did"
            )
        if "backbone" in checkpoint and checkpoint["backbone"] != getattr(self.backbone, "builder", None):
            self._take_backbone(checkpoint["backbone"])
        if not is_sharded(self):
            self._new_heads(infos, state)
            take_types_(self, state)
        elif self.tasks != list(infos):
            self._new_heads(infos, state)
            self.heads.to(input_type(self.backbone))
            self._shard()
        if checkpoint["selected_task"] is not None:
            self.select_task(checkpoint["selected_task"])

    def _new_heads(self, infos: Mapping[str, TaskInfo], state: Mapping[str, Tensor]) -> None:
        self.heads = Heads(self.heads.num_features).to(self.device)
        for number, (name, info) in enumerate(infos.items()):
            weight = state.get(f"heads.head_{number}.weight")
            self.heads.add(name, info, num_features=None if weight is None else weight.shape[1]).to(self.device)

    def _shard(self) -> None:
        assert self.device_mesh is not None
        shard_with_owners_(self.packnet, [self.backbone, *self.heads.children()], self.device_mesh["data_parallel"])

    def _take_backbone(self, builder: Mapping[str, Any]) -> None:
        """Builds the backbone that a checkpoint names, whose weights are about to be loaded: it has grown since."""
        with torch.random.fork_rng(devices=[]):
            self.backbone = build_backbone(builder).to(self.device)
        self.heads.num_features = self.backbone.num_features  # type: ignore[assignment]
        if self.packnet is not None:
            self.packnet.module = self.backbone

    def _forward(self, head: nn.Module, images: Tensor) -> Tensor:
        logits: Tensor = head(self.backbone(as_input(images, self.backbone)))
        return logits


def _selected_network(module: MultiHeadClassifier) -> nn.Module:
    assert module.selected_task is not None
    return nn.Sequential(module.backbone, module.heads[module.selected_task])
