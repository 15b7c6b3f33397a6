"""Running statistics of norms, computed anew when the weights of a phase are final."""

from collections.abc import Callable, Iterable
from contextlib import nullcontext
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from packnet_pl.distributed import sum_
from packnet_pl.models import as_input
from packnet_pl.training.datamodule import TaskDataModule
from packnet_pl.training.distillation import frozen_copy
from packnet_pl.training.protocols import find_packnet
from packnet_pl.training.task_observer import TaskObserver

__all__ = ["RecalibrateNorms", "recalibrate_"]


@torch.no_grad()
def recalibrate_(network: nn.Module, batches: Iterable[Tensor], device: torch.device | str = "cpu") -> None:
    """Sets running statistics of torch's norms that are in training mode to means over batches, weighted by images.

    It does what ``torch.optim.swa_utils.update_bn`` does, but that all other layers stay in eval mode, as dropout, that
    batches of all sizes count right, and that processes share the work. A momentum has no part in it.

    Args:
        network: Takes a batch. Every process has the same weights, and must call it alike.
        batches: Of this process, N x ... each.
        device: Where to compute.
    """
    copy = frozen_copy(network).to(device)
    norms = [
        (norm, copied)
        for norm, copied in zip(network.modules(), copy.modules(), strict=True)
        if isinstance(norm, _NormBase) and isinstance(copied, _NormBase) and norm.running_mean is not None
        # What a method keeps frozen is in eval mode.
        if norm.training
    ]
    if not norms:
        return
    for _, copied in norms:
        copied.train()
        copied.momentum = 1.0
    sums = [torch.zeros(2, norm.num_features, dtype=torch.float64) for norm, _ in norms]
    count = torch.zeros(1, dtype=torch.float64)
    for batch in batches:
        copy(as_input(batch.to(device), copy))
        count += len(batch)
        for total, (_, copied) in zip(sums, norms, strict=True):
            total += len(batch) * torch.stack(_statistics(copied)).double().cpu()
    sum_(count)
    for total, (norm, _) in zip(sums, norms, strict=True):
        for statistic, value in zip(_statistics(norm), sum_(total) / count, strict=True):
            statistic.copy_(value)


def _statistics(norm: _NormBase) -> list[Tensor]:
    return [statistic for statistic in (norm.running_mean, norm.running_var) if statistic is not None]


class RecalibrateNorms(TaskObserver):
    """Recomputes, at the end of a fit, the running statistics of the norms that the task may change.

    They are then those of the weights that the phase ends with (the last step's, an average's, the best epoch's), over
    one pass through the training batches, in place of a moving average over those of the last steps; images of embedded
    tasks are not augmented for it. A later task whose norms are shared may change none, and keeps them.

    Args:
        network: Returns the shared part of the LightningModule; None is its ``backbone``.
        images: Returns from a batch what the shared part takes; None is its first element.
    """

    def __init__(
        self, network: Callable[[Any], nn.Module] | None = None, images: Callable[[Any], Tensor] | None = None
    ) -> None:
        self._network, self._images = network, images

    def before_moment_(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Recomputes them, unless nothing was trained."""
        packnet, batches = find_packnet(pl_module), _training_batches(trainer)
        if batches is None or (packnet is not None and packnet.tasks and packnet.state.norm == "shared"):
            return
        network: nn.Module = self._network(pl_module) if self._network else pl_module.backbone  # type: ignore[assignment]
        images = self._images or _first
        with packnet.masked() if packnet is not None else nullcontext():
            recalibrate_(network, (images(batch) for batch in batches), trainer.strategy.root_device)


def _training_batches(trainer: pl.Trainer) -> Any:
    data = trainer.datamodule  # type: ignore[attr-defined]
    plain = data.unaugmented_dataloader() if isinstance(data, TaskDataModule) else None
    return trainer.train_dataloader if plain is None else plain


def _first(batch: Any) -> Tensor:
    images: Tensor = batch[0]
    return images
