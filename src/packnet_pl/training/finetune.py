"""Sequential fine-tuning: the baseline that forgets."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from packnet_pl.core import Phase

__all__ = ["fine_tune_task"]


class _Settled(pl.Callback):
    def __init__(self, call: Callable[[pl.LightningModule], None]) -> None:
        self._call = call

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._call(pl_module)


def fine_tune_task(
    model: pl.LightningModule,
    datamodule: Any,
    *,
    task: str,
    prune_ratio: float | None,
    make_trainer: Callable[[Phase, pl.Callback], pl.Trainer],
    settled: Callable[[pl.LightningModule], None],
    resume: tuple[Phase, Path] | None = None,
) -> None:
    """Trains every weight on the new task, as if no earlier task mattered.

    Args:
        model: A TaskClassifier made with ``pack=False``.
        datamodule: Whatever ``Trainer.fit`` takes.
        task: Name of the task, for the message only.
        prune_ratio: Must be None.
        make_trainer: Called with "train" and a callback to use; returns a new Trainer.
        settled: Called with the module at the end of the fit.
        resume: "train" and a Lightning checkpoint to go on from.

    Raises:
        ValueError: If a prune ratio is given: fine-tuning prunes nothing.
    """
    if prune_ratio is not None:
        raise ValueError(f"task {task!r}: prune ratio {prune_ratio} was given, but fine-tuning prunes nothing")
    checkpoint = resume[1] if resume else None
    trainer = make_trainer("train", _Settled(settled))
    trainer.fit(model, datamodule, ckpt_path=checkpoint, weights_only=True if checkpoint else None)
