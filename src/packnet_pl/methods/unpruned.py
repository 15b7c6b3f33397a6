"""One task trained with nothing pruned: how the methods that PackNet is compared with fit a task."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from packnet_pl.choices import Phase
from packnet_pl.distributed import broadcast_
from packnet_pl.training.classifier import TaskClassifier
from packnet_pl.training.divergence import check_finite_weights

__all__ = ["fit_unpruned"]


class _Settled(pl.Callback):
    def __init__(self, model: TaskClassifier, task: str, call: Callable[[pl.LightningModule], None]) -> None:
        self._model, self._task, self._call = model, task, call

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._model.end_fit()
        # Statistics that each process gathered by itself become the first's.
        broadcast_([*pl_module.parameters(), *pl_module.buffers()])
        check_finite_weights(pl_module, self._task, "train")
        self._call(pl_module)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._model.end_fit()  # Lightning calls no teardown then


def fit_unpruned(
    model: TaskClassifier,
    datamodule: Any,
    *,
    task: str,
    prune_ratio: float | None,
    make_trainer: Callable[[Phase, pl.Callback], pl.Trainer],
    settled: Callable[[pl.LightningModule], None],
    resume: tuple[Phase, Path] | None = None,
) -> None:
    """Trains what ``model`` leaves trainable. With a plain TaskClassifier that is fine-tuning, which forgets.

    Args:
        model: A TaskClassifier made with ``pack=False``, or another method's.
        datamodule: Whatever ``Trainer.fit`` takes.
        task: Name of the task, for messages only.
        prune_ratio: Must be None.
        make_trainer: Called with "train" and a callback to use; returns a new Trainer.
        settled: Called with the module at the end of the fit.
        resume: "train" and a Lightning checkpoint to go on from.

    Raises:
        DivergedError: If the loss, a parameter or a running statistic is not finite.
        ValueError: If a prune ratio is given.
    """
    if prune_ratio is not None:
        raise ValueError(f"task {task!r}: prune ratio {prune_ratio} was given, but this method prunes nothing")
    checkpoint = resume[1] if resume else None
    trainer = make_trainer("train", _Settled(model, task, settled))
    trainer.fit(model, datamodule, ckpt_path=checkpoint, weights_only=True if checkpoint else None)
