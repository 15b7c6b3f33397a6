"""The recipe of a phase: how it is optimized, and by which loss."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LRScheduler

from packnet_pl.training.distillation import Distillation
from packnet_pl.training.mixing import Mixing

__all__ = ["Recipe"]


@dataclass(frozen=True)
class Recipe:
    """The optimizer of one phase, its schedule, its loss, and what is done to its batches.

    Attributes:
        optimizer: Takes the parameters, returns the optimizer. The default is the paper's: SGD, momentum 0.9, 1e-3.
        scheduler: Takes the optimizer and the keyword ``total_steps``, returns a schedule that is stepped after each
            optimizer step; None keeps the rate.
        loss: Of training: takes logits (N x classes) and targets (class indices, N; after ``mixing`` probabilities, N x
            classes), returns a scalar. Validation and test keep the plain cross-entropy.
        mixing: Takes the images and labels of a training batch, returns as many images, and probabilities, as
            torchvision's ``MixUp`` and ``CutMix`` do.
            It draws with torch's generator, which a run seeds for each batch. None mixes nothing.
        distillation: Of phase "retrain", from the network as it was at the end of phase "train"; None heeds the labels
            alone.
    """

    optimizer: Callable[[list[nn.Parameter]], Optimizer] = field(default=partial(SGD, lr=1e-3, momentum=0.9))
    scheduler: Callable[..., LRScheduler] | None = None
    loss: Callable[[Tensor, Tensor], Tensor] = field(default=cross_entropy)
    mixing: Mixing | None = None
    distillation: Distillation | None = None
