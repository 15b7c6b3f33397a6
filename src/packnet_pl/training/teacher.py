"""The teacher of a phase "retrain": the network of a task as it is right before it is pruned."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from packnet_pl.filter_history import Moment
from packnet_pl.training.distillation import frozen_copy
from packnet_pl.training.protocols import find_packnet
from packnet_pl.training.task_observer import TaskObserver

__all__ = ["DenseTeacher"]


class DenseTeacher(TaskObserver):
    """Copies a task's network when it is dense, and predicts with the copy while the task is retrained.

    One object serves both fits of a task, and all tasks. The copy is no part of the module: neither its state dict nor
    an optimizer sees it. It is in the checkpoints of phase "retrain", and dropped with the end of the fit that finishes
    the task. In a LightningModule of one's own it is an attribute, and a callback::

        self.teacher = DenseTeacher(lambda module: nn.Sequential(module.backbone, module.heads["cubs"]))

        def configure_callbacks(self):
            return [self.teacher]

        def training_step(self, batch, batch_idx):
            images, labels = batch
            logits = self(images)
            loss = cross_entropy(logits, labels)
            return Distillation(0.5)(loss, logits, self.teacher(images)) if self.teacher.task else loss

    Args:
        network: Returns what computes logits from the batch: a module made of those of the LightningModule.

    Attributes:
        task: The task that there is a copy for; None in phase "train".
    """

    def __init__(self, network: Callable[[Any], nn.Module]) -> None:
        self._network = network
        self.task: str | None = None
        self._copy: nn.Module | None = None
        self._saved: Mapping[str, Tensor] | None = None

    @torch.no_grad()
    def __call__(self, *inputs: Any) -> Tensor:
        """Returns the logits that the dense network has for a batch.

        Raises:
            ValueError: If there is no copy: the task was not trained densely by this object, nor resumed with a
                checkpoint that has it.
        """
        if self._copy is None:
            raise ValueError(
                "there is no dense network to distil from: it is copied at the end of phase 'train', and is in the "
                "checkpoints of phase 'retrain'; fit both phases with the same DenseTeacher, or resume from such a "
                "checkpoint (ckpt_path=)"
            )
        logits: Tensor = self._copy(*inputs)
        return logits

    def take(self, module: pl.LightningModule, task: str) -> None:
        """Copies the network of ``task`` as it computes now: with its mask, where it has one."""
        packnet = find_packnet(module)
        with packnet.masked() if packnet is not None else nullcontext():
            self.task, self._copy, self._saved = task, frozen_copy(self._network(module)), None

    def drop(self) -> None:
        """Drops the copy."""
        self.task, self._copy, self._saved = None, None, None

    def on_moment(self, trainer: pl.Trainer, pl_module: pl.LightningModule, task: str, moment: Moment) -> None:
        """Copies the network when it is dense."""
        if moment == "dense":
            self.take(pl_module, task)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Makes the copy that a checkpoint has, and moves it to where the module is now.

        A copy of a task that was given up is dropped.
        """
        packnet = find_packnet(pl_module)
        if packnet is not None and (packnet.phase != "retrain" or packnet.open_task != self.task):
            self.drop()
        if self._saved is not None and self.task is not None:
            saved, task = self._saved, self.task
            self.take(pl_module, task)
            assert self._copy is not None
            self._copy.load_state_dict(saved)
        if self._copy is not None:
            self._copy.to(pl_module.device)

    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Drops the copy if its task is open no more."""
        packnet = find_packnet(pl_module)
        if stage == "fit" and packnet is not None and packnet.open_task != self.task:
            self.drop()

    def state_dict(self) -> dict[str, Any]:
        """Returns the copy, if there is one."""
        return {} if self._copy is None else {"task": self.task, "network": self._copy.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Loads what :meth:`state_dict` returned; the copy is made when the fit begins, as the module is built then."""
        self.task, self._saved = state_dict["task"], state_dict["network"]
