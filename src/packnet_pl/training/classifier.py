"""A shared backbone with one head per task, trained on one task at a time."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torchmetrics.classification import MulticlassAccuracy

from packnet_pl.choices import Keeping, Phase, check_task_name
from packnet_pl.core import PackNet
from packnet_pl.core.conversion import take_types_
from packnet_pl.core.module_modes import in_eval_mode
from packnet_pl.models import (
    Heads,
    HeadStart,
    Preparation,
    TaskInfo,
    as_input,
    head_values,
    input_type,
    tasks_of,
)
from packnet_pl.training.callback import PackNetCallback
from packnet_pl.training.divergence import DivergedError, check_finite_weights
from packnet_pl.training.families import warn_if_both
from packnet_pl.training.mixin import PackNetMixin
from packnet_pl.training.recipe import Recipe

__all__ = ["TaskClassifier"]


class TaskClassifier(PackNetMixin, pl.LightningModule):
    """Image classification, task after task, in one network.

    Args:
        backbone: The part that all tasks share: images in, feature vectors (N x ``num_features``) out.
        num_features: Length of the feature vectors; None asks ``backbone.num_features``.
        recipes: Phase -> recipe; it may be replaced before each task.
        pack: Whether tasks own weights. False is plain multi-head training, in which every task trains every weight and
            earlier tasks are forgotten: the baseline that shows what PackNet is for.
        norm: "shared" or "per_task": see :class:`PackNet`.
        bias: "shared" or "per_task", likewise.

    Attributes:
        packnet: The owners of the backbone's weights; None if ``pack`` is False.
        networks: Finished task -> tensors of a whole backbone of its own; empty where all tasks share one.
        selected_task: The task that is trained, validated and tested; None before the first :meth:`add_task`.
        shares: Whether all tasks have one backbone together; a class says it.

    Raises:
        ValueError: If the number of features is unknown.
    """

    shares = True

    def __init__(
        self,
        backbone: nn.Module,
        *,
        num_features: int | None = None,
        recipes: Mapping[Phase, Recipe] | None = None,
        pack: bool = True,
        norm: Keeping = "shared",
        bias: Keeping = "shared",
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
        self.packnet = PackNet(backbone, norm=norm, bias=bias) if pack else None
        self.recipes: Mapping[Phase, Recipe] = recipes or {"train": Recipe(), "retrain": Recipe()}
        self.networks: dict[str, dict[str, Tensor]] = {}
        self.selected_task: str | None = None
        self._fitting = False

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
        for other, head in self.heads.named_children():
            # An unused head that needs gradients would make DDP wait for them.
            head.requires_grad_(other == key)
        self.selected_task = name
        self.train_accuracy = self._new_metric(name, top_k=1)
        self.val_accuracy, self.val_top5 = self._new_metric(name, top_k=1), self._new_metric(name, top_k=5)
        self.test_accuracy, self.test_top5 = self._new_metric(name, top_k=1), self._new_metric(name, top_k=5)

    def private_modules(self, task: str) -> list[str]:
        """Returns the names of the modules that only ``task`` uses."""
        return [f"heads.{self.heads.key(task)}"]

    def has_finished(self, task: str) -> bool:
        """Returns whether :meth:`showing` makes the backbone what it was when ``task`` was finished."""
        return self.packnet is not None and task in self.packnet.tasks

    def showing(self, task: str) -> AbstractContextManager[None]:
        """Returns a context in which the backbone has the weights that answer for ``task``."""
        if self.packnet is not None and self.has_finished(task):
            return self.packnet.subnetwork(task)
        return nullcontext()

    @contextmanager
    def answering(self, task: str) -> Iterator[Callable[[Tensor], Tensor]]:
        """Gives a function from images to logits of ``task``, in eval mode; every module's mode is given back.

        A finished task is answered through its subnetwork: bit for bit as when it was finished.

        Raises:
            ValueError: If there is no such task.
        """
        head = self.heads[task]

        def logits(images: Tensor) -> Tensor:
            answer: Tensor = head(self.backbone(as_input(images, self.backbone)))
            return answer

        wanted = [(parameter, parameter.requires_grad) for parameter in head.parameters()]
        with in_eval_mode([*self.backbone.modules(), *head.modules()]):
            try:
                # As when it was trained: torch chooses kernels by it, and other kernels round otherwise.
                head.requires_grad_(True)
                with self.showing(task):
                    yield logits
            finally:
                for parameter, requires_grad in wanted:
                    parameter.requires_grad_(requires_grad)

    def forward(self, images: Tensor, task: str | None = None) -> Tensor:
        """Returns logits (N x classes of the task) of ``images`` (N x C x H x W).

        Args:
            images: Normalised as for training.
            task: Whose logits; None is the selected task. A finished task is always answered through its subnetwork and
                in eval mode, an unfinished one by the network as it is.

        Raises:
            ValueError: If there is no such task, or none at all.
        """
        task = task if task is not None else self.selected_task
        if task is None:
            raise ValueError("there is no task yet: add_task(name, num_classes=...) first")
        if self.has_finished(task):
            with self.answering(task) as logits:
                return logits(images)
        answer: Tensor = self.heads[task](self.backbone(as_input(images, self.backbone)))
        return answer

    def setup(self, stage: str) -> None:
        """Refuses a fit that nobody watches, and begins one.

        Raises:
            ValueError: If a fit has no PackNetCallback, or no task is selected.
        """
        if stage != "fit":
            return
        if self.selected_task is None:
            raise ValueError("there is no task to fit: add_task(name, num_classes=...) first")
        callbacks = self.trainer.callbacks  # type: ignore[attr-defined]
        if self.packnet is not None and not any(isinstance(callback, PackNetCallback) for callback in callbacks):
            raise ValueError(
                "this fit has no PackNetCallback, so it would train over finished tasks: give the Trainer "
                f"callbacks=[PackNetCallback(task={self.selected_task!r}, phase='train', prune_ratio=...)]"
            )
        self._fitting = True
        self.begin_fit()

    def teardown(self, stage: str) -> None:
        """Ends a fit."""
        if stage == "fit":
            self.end_fit()

    def begin_fit(self) -> None:
        """Makes ready what a fit of the selected task needs, before the strategy wraps the module.

        It is called again when a checkpoint has brought its tasks. Other methods override it.
        """

    def end_fit(self) -> None:
        """Gives back what :meth:`begin_fit` took; does nothing the second time.

        The weights are final then: what the module answers from here on is what it is to answer for good.
        """
        self._fitting = False

    def loss_and_logits(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the loss of a batch (a scalar: the cross-entropy of the selected task) and its logits (N x classes).

        Other methods learn from another loss: they override it.

        Args:
            images: N x C x H x W.
            labels: int64, N.
        """
        logits = self(images)
        return cross_entropy(logits, labels), logits

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Returns the loss of a batch.

        Raises:
            DivergedError: If it is NaN or infinite.
        """
        images, labels = batch
        loss, logits = self.loss_and_logits(images, labels)
        if not torch.isfinite(loss):
            where = f"in epoch {self.current_epoch}, step {self.global_step}"
            task = str(self.selected_task)
            # Before the first step of retraining the weights are those that phase "train" left behind.
            cause = "train" if self.global_step == 0 else self._phase
            raise DivergedError(f"the loss of task {task!r} became {loss.item()} {where}", task, cause)
        self.train_accuracy(logits, labels)
        self._log("train_loss", loss)
        self._log("train_accuracy", self.train_accuracy)
        return loss

    def on_train_epoch_end(self) -> None:
        """Looks whether what was trained is finite, before it is saved.

        Raises:
            DivergedError: If a parameter or a running statistic is not.
        """
        check_finite_weights(self, str(self.selected_task), self._phase)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Logs ``val_loss``, ``val_accuracy`` and, with more than five classes, ``val_top5`` of the selected task."""
        self._evaluate(batch, "val", self.val_accuracy, self.val_top5)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Logs ``test_loss``, ``test_accuracy`` and, with more than five classes, ``test_top5`` of the task."""
        self._evaluate(batch, "test", self.test_accuracy, self.test_top5)

    def configure_optimizers(self) -> Any:
        """Returns the phase's optimizer over all that needs gradients, and its schedule."""
        recipe = self.recipes[self._phase]
        optimizer = recipe.optimizer([parameter for parameter in self.parameters() if parameter.requires_grad])
        if recipe.scheduler is None:
            return optimizer
        steps = self.trainer.estimated_stepping_batches
        if steps == float("inf"):
            raise ValueError("the schedule needs to know the end: give the Trainer max_epochs or max_steps")
        scheduler = recipe.scheduler(optimizer, total_steps=int(steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the tasks and the owners of the weights."""
        checkpoint["tasks"] = {name: info.dump() for name, info in self.heads.infos.items()}
        checkpoint["selected_task"] = self.selected_task
        if self.packnet is not None:
            checkpoint["packnet"] = self.packnet.state_dict(self)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Rebuilds the heads in the checkpoint's order, so that any number of tasks loads into a freshly built module.

        Raises:
            ValueError: If it was not written by such a TaskClassifier, or its tasks are not those of this module.
        """
        infos = tasks_of(checkpoint, self.heads.infos)
        if ("packnet" in checkpoint) != (self.packnet is not None):
            owners = "holds owners of weights" if "packnet" in checkpoint else "holds no owners of weights"
            raise ValueError(f"the checkpoint {owners}, and this TaskClassifier has pack={self.packnet is not None}")
        self.heads = Heads(self.heads.num_features).to(self.device)
        for name, info in infos.items():
            self.heads.add(name, info).to(self.device)
        take_types_(self, checkpoint.get("state_dict", {}))
        if checkpoint["selected_task"] is not None:
            self.select_task(checkpoint["selected_task"])
        if self.packnet is not None:
            self.packnet.load_state_dict(checkpoint["packnet"])
        if self._fitting:
            self.begin_fit()

    def count_classes(self, task: str) -> int:
        """Returns the number of classes that the logits of a fit of ``task`` have."""
        return self.heads.infos[task].num_classes

    @property
    def _phase(self) -> Phase:
        return (self.packnet.phase if self.packnet else None) or "train"

    def _new_metric(self, task: str, *, top_k: int) -> MulticlassAccuracy:
        num_classes = self.count_classes(task)
        # With no more classes than top_k every answer is right; such a metric is never logged.
        metric = MulticlassAccuracy(num_classes, average="micro", top_k=min(top_k, num_classes))
        return metric.to(self.device)

    def _evaluate(
        self, batch: tuple[Tensor, Tensor], split: str, accuracy: MulticlassAccuracy, top5: MulticlassAccuracy
    ) -> None:
        images, labels = batch
        loss, logits = self.loss_and_logits(images, labels)
        accuracy(logits, labels)
        self._log(f"{split}_loss", loss)
        self._log(f"{split}_accuracy", accuracy)
        if logits.shape[1] > 5:
            top5(logits, labels)
            self._log(f"{split}_top5", top5)

    def _log(self, name: str, value: Tensor | MulticlassAccuracy) -> None:
        # A metric has the name of its attribute; the list that Lightning makes of them outlives a fit that failed.
        attribute = name if isinstance(value, MulticlassAccuracy) else None
        self.log(name, value, on_step=False, on_epoch=True, sync_dist=True, metric_attribute=attribute)
