"""Fits one task through both phases, each with a Trainer of its own."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl

from packnet_pl.checkpoint_reading import check_plain
from packnet_pl.choices import Granularity, Phase, Scope
from packnet_pl.core import LearnedMask, PruneRule
from packnet_pl.training.callback import PackNetCallback
from packnet_pl.training.fit_arguments import check_data, check_module_given, check_trainer
from packnet_pl.training.protocols import find_packnet

__all__ = ["fit_task"]


def fit_task(  # noqa: PLR0913 - public, by keyword: those of the callback, and of the fits
    model: pl.LightningModule,
    datamodule: Any,
    *,
    task: str,
    prune_ratio: float | None,
    make_trainer: Callable[[Phase, PackNetCallback], pl.Trainer],
    val_dataloaders: Any = None,
    rule: PruneRule | None = None,
    scope: Scope | None = None,
    granularity: Granularity | None = None,
    private: str | Sequence[str] | None = None,
    free: str | Sequence[str] = (),
    select: Literal["last", "best"] = "last",
    monitor: str = "val_accuracy",
    mode: Literal["max", "min"] | None = None,
    mask: LearnedMask | Literal["all", "learned"] | None = None,
    settled: Callable[[pl.LightningModule], None] | None = None,
    resume: tuple[Phase, Path] | None = None,
) -> pl.Trainer:
    """Trains a task, prunes it, retrains what is left and finishes it.

    A task that was interrupted goes on in the phase in which it is open. Two fits, each with a new Trainer, give each
    phase its own epochs, optimizer state and schedule.

    Args:
        model: Has a ``packnet`` attribute.
        datamodule: A datamodule or a training loader; None where the module has a ``train_dataloader`` of its own.
        task: Name of the task.
        prune_ratio: Share of the task's weights to release, in [0, 1); None keeps all, and there is no retraining.
        make_trainer: Called with the phase and the callback for it; returns a new Trainer that has the callback.
        val_dataloaders: The loader for validation, or several; not beside a datamodule, which has its own.
        rule: How the task is pruned: see :class:`PackNetCallback`.
        scope: "layer" or "global": see :class:`PackNetCallback`.
        granularity: "weight" or "filter": see :class:`PackNetCallback`.
        private: Modules of this task alone: see :class:`PackNetCallback`.
        free: What outside the shared part may change all the same: see :class:`PackNetCallback`.
        select: "last" or "best": see :class:`PackNetCallback`.
        monitor: For "best": the logged validation metric.
        mode: For "best": "max", "min", or None for "max": see :class:`PackNetCallback`.
        mask: "all" or "learned": see :class:`PackNetCallback`.
        settled: Called with the module when its weights are final, right before the task is finished.
        resume: A phase and a Lightning checkpoint of it: the task goes on from there. None begins the task, or goes on
            with the phase that is open in ``model``.

    Returns:
        The Trainer of the last phase: ``fit_task(...).save_checkpoint(path)`` writes a checkpoint that has the task
        finished.

    Raises:
        ValueError: If an argument is not allowed, the returned Trainer lacks the callback, or the task cannot be
            fitted; before anything is trained, as far as it can be known then.
    """
    if resume:
        check_plain(resume[1])
    check_module_given(model)
    check_data(model, datamodule, val_dataloaders)
    packnet = find_packnet(model)
    begun = packnet is not None and packnet.open_task == task and packnet.phase == "retrain"
    phases: list[Phase] = ["train"] if prune_ratio is None else ["train", "retrain"]
    if begun or (resume and resume[0] == "retrain"):
        phases = ["retrain"]
    for phase in phases:
        callback = PackNetCallback(
            task=task,
            phase=phase,
            prune_ratio=prune_ratio if phase == "train" or _is_gradual(rule) else None,
            rule=rule,
            scope=scope,
            granularity=granularity,
            private=private,
            free=free,
            select=select,
            monitor=monitor,
            mode=mode,
            mask=mask,
            settled=settled if phase == phases[-1] else None,
        )
        trainer = make_trainer(phase, callback)
        check_trainer(trainer, model, datamodule, f"make_trainer({phase!r}, callback)")
        if callback not in trainer.callbacks:  # type: ignore[attr-defined]
            raise ValueError(
                f"make_trainer({phase!r}, callback) returned a Trainer without the callback: "
                "give it as pl.Trainer(callbacks=[callback, ...])"
            )
        checkpoint = resume[1] if resume and resume[0] == phase else None
        safe = True if checkpoint else None
        trainer.fit(model, datamodule, val_dataloaders, ckpt_path=checkpoint, weights_only=safe)
    return trainer


def _is_gradual(rule: PruneRule | None) -> bool:
    return isinstance(rule, PruneRule) and rule.schedule == "gradual"
