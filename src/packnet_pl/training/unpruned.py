"""One task trained with nothing pruned: how the methods that PackNet is compared with fit a task."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from packnet_pl.core import Phase

__all__ = ["fit_unpruned"]


class _Settled(pl.Callback):
    def __init__(self, call: Callable[[pl.LightningModule], None]) -> None:
        self._call = call

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._call(pl_module)


def fit_unpruned(
    model: pl.LightningModule,
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
        task: Name of the task, for the message only.
        prune_ratio: Must be None.
        make_trainer: Called with "train" and a callback to use; returns a new Trainer.
        settled: Called with the module at the end of the fit.
        resume: "train" and a Lightning checkpoint to go on from.

    Raises:
        ValueError: If a prune ratio is given.
    """
    if prune_ratio is not None:
        raise ValueError(f"task {task!r}: prune ratio {prune_ratio} was given, but this method prunes nothing")
    checkpoint = resume[1] if resume else None
    trainer = make_trainer("train", _Settled(settled))
    trainer.fit(model, datamodule, ckpt_path=checkpoint, weights_only=True if checkpoint else None)
