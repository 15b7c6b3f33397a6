"""Lightning fits with and without PackNet on equal networks: a plain module, its batches, and quiet Trainers."""

import time
from collections.abc import Callable
from typing import Any

import pytorch_lightning as pl
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer
from torch.utils.data import DataLoader

from packnet_pl import PackNet
from speed_rows.networks import MakeOptimizer, batch_of

__all__ = ["Classifier", "StepTimes", "loader_of", "repeated", "trainer_of"]


class Classifier(pl.LightningModule):
    """A user's own classifier; with a PackNet on its shared part, where it is asked for.

    Args:
        shared: Images to features.
        head: Features to logits.
        make_optimizer: Given all parameters.
        packs: Whether it has a PackNet.
    """

    packnet: PackNet

    def __init__(self, shared: nn.Module, head: nn.Module, make_optimizer: MakeOptimizer, packs: bool) -> None:
        super().__init__()
        self.shared, self.head, self._make_optimizer = shared, head, make_optimizer
        if packs:
            self.packnet = PackNet(shared)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Returns the loss of a batch."""
        return cross_entropy(self.head(self.shared(batch[0])), batch[1])

    def configure_optimizers(self) -> Optimizer:
        """Returns the optimizer."""
        return self._make_optimizer(self.parameters())


class StepTimes(pl.Callback):
    """Notes the seconds from the begin of each batch to the begin of the next; the first five are left out."""

    def __init__(self, clock: Callable[[], float] = time.process_time) -> None:
        self._clock, self._begun = clock, list[float]()

    def on_train_batch_start(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Notes the time."""
        self._begun.append(self._clock())

    @property
    def seconds(self) -> list[float]:
        """One per step."""
        return [after - before for before, after in zip(self._begun[5:], self._begun[6:], strict=False)]


def loader_of(steps: int, batch_size: int, pixels: int) -> DataLoader[Any]:
    """Returns a loader of one random batch again and again: nothing is read or drawn in a step."""
    return repeated(batch_of(batch_size, pixels), steps)


def repeated(batch: tuple[Tensor, Tensor], steps: int) -> DataLoader[Any]:
    """Returns a loader of ``batch``, as often as there are steps."""
    return DataLoader([batch] * steps, batch_size=None)  # type: ignore[arg-type]


def trainer_of(*callbacks: pl.Callback, epochs: int = 1, **settings: Any) -> pl.Trainer:
    """Returns a Trainer on the CPU that writes nothing.

    Args:
        *callbacks: Of the fit.
        epochs: How many.
        **settings: Further ones of ``pl.Trainer``.
    """
    return pl.Trainer(
        max_epochs=epochs,
        callbacks=list(callbacks),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        **{"accelerator": "cpu", "devices": 1, **settings},
    )
