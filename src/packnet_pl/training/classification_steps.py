"""Training, validation and test steps of a classifier for one task, its metrics and its optimizer."""

from collections.abc import Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torchmetrics.classification import MulticlassAccuracy

from packnet_pl.choices import Phase
from packnet_pl.training.divergence import DivergedError, check_finite_weights
from packnet_pl.training.recipe import Recipe

__all__ = ["ClassificationSteps"]


class ClassificationSteps(pl.LightningModule):
    """Steps on batches of images and labels; a subclass has the network and the loss.

    Attributes:
        selected_task: The task that is trained, validated and tested; None before there is one.
        recipes: Phase -> how it is optimized; it may be replaced before each task.
    """

    selected_task: str | None
    recipes: Mapping[Phase, Recipe]

    @property
    def phase(self) -> Phase:
        """Phase of the selected task; methods that do not prune have one only."""
        return "train"

    def loss_and_logits(self, images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the loss of a batch (a scalar) and its logits (N x classes).

        Args:
            images: N x C x H x W.
            labels: int64, N; of a training batch whose images were mixed, probabilities, N x classes.
        """
        raise NotImplementedError

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Returns the loss of predictions: in training mode that of the phase's recipe, otherwise the cross-entropy.

        Args:
            logits: N x classes.
            labels: As for :meth:`loss_and_logits`.
        """
        return self.recipes[self.phase].loss(logits, labels) if self.training else cross_entropy(logits, labels)

    def new_metrics(self, num_logits: int) -> None:
        """Resets the metrics, for the number of logits of the selected task.

        Args:
            num_logits: How many logits there are for an image.
        """

        def accuracy(top_k: int) -> MulticlassAccuracy:
            # With no more classes than top_k every prediction is right; such a metric is never logged.
            metric = MulticlassAccuracy(num_logits, average="micro", top_k=min(top_k, num_logits))
            return metric.to(self.device)

        self.train_accuracy = accuracy(1)
        self.val_accuracy, self.val_top5 = accuracy(1), accuracy(5)
        self.test_accuracy, self.test_top5 = accuracy(1), accuracy(5)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Returns the loss of a batch, mixed if the recipe says so.

        The accuracy that is logged is then that of predicting the class with the larger share.

        Raises:
            DivergedError: If it is NaN or infinite.
        """
        images, labels = batch
        mixing = self.recipes[self.phase].mixing
        if mixing is not None:
            images, labels = mixing(images, labels)
        loss, logits = self.loss_and_logits(images, labels)
        if not torch.isfinite(loss):
            where = f"in epoch {self.current_epoch}, step {self.global_step}"
            task = str(self.selected_task)
            # Before the first step of retraining the weights are those that phase "train" left behind.
            cause = "train" if self.global_step == 0 else self.phase
            raise DivergedError(f"the loss of task {task!r} became {loss.item()} {where}", task, cause)
        self.train_accuracy(logits, labels if mixing is None else labels.argmax(dim=1))
        self._log("train_loss", loss)
        self._log("train_accuracy", self.train_accuracy)
        return loss

    def on_train_epoch_end(self) -> None:
        """Checks that what was trained is finite, before it is saved.

        Raises:
            DivergedError: If a parameter or a running statistic is not.
        """
        check_finite_weights(self, str(self.selected_task), self.phase)

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Logs ``val_loss``, ``val_accuracy`` and, with more than five classes, ``val_top5`` of the selected task."""
        self._evaluate(batch, "val", self.val_accuracy, self.val_top5)

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """Logs ``test_loss``, ``test_accuracy`` and, with more than five classes, ``test_top5`` of the task."""
        self._evaluate(batch, "test", self.test_accuracy, self.test_top5)

    def configure_optimizers(self) -> Any:
        """Returns the phase's optimizer over all that needs gradients, and its schedule."""
        recipe = self.recipes[self.phase]
        optimizer = recipe.optimizer([parameter for parameter in self.parameters() if parameter.requires_grad])
        if recipe.scheduler is None:
            return optimizer
        steps = self.trainer.estimated_stepping_batches
        if steps == float("inf"):
            raise ValueError("the schedule needs to know the end: give the Trainer max_epochs or max_steps")
        scheduler = recipe.scheduler(optimizer, total_steps=int(steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _evaluate(
        self, batch: tuple[Tensor, Tensor], split: str, accuracy: MulticlassAccuracy, top5: MulticlassAccuracy
    ) -> None:
        images, labels = batch
        if not len(labels):
            self(images)  # for the other processes of a sharded network
            return
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
