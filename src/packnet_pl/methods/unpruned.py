"""The base of the methods that PackNet is compared with: no task owns weights, and one fit trains a task."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from packnet_pl.choices import Phase
from packnet_pl.distributed import broadcast_
from packnet_pl.methods.untrained_tensors import UntrainedTensors
from packnet_pl.training.divergence import check_finite_weights
from packnet_pl.training.multi_head import MultiHeadClassifier
from packnet_pl.training.task_observer import let_observers_change_, tell_observers
from packnet_pl.training.weight_averaging import (
    averaging_callbacks,
    move_behind_averages,
    use_averages_of_skipped_training,
)

__all__ = ["UnprunedClassifier", "fit_unpruned"]


class UnprunedClassifier(MultiHeadClassifier):
    """A classifier in which tasks own no weights; each method adds what a fit needs before and after.

    Args:
        backbone: As for :class:`MultiHeadClassifier`.
        num_features: As for :class:`MultiHeadClassifier`.
        recipes: As for :class:`MultiHeadClassifier`.

    Attributes:
        fitted_phase: The one that is fitted.
    """

    fitted_phase: Phase = "train"
    _fits = False

    @property
    def phase(self) -> Phase:
        """Phase that is fitted, or was fitted last."""
        return self.fitted_phase

    def begin_fit(self) -> None:
        """Prepares the fit of the selected task, before the strategy wraps the module.

        It is called again when a checkpoint has brought its tasks.
        """

    def end_fit(self) -> None:
        """Undoes :meth:`begin_fit`; does nothing the second time.

        The weights are final then: from here on the module predicts what it is to predict for good.
        """

    def setup(self, stage: str) -> None:
        """Begins a fit.

        Raises:
            ValueError: If no task is selected, or the method refuses the fit.
        """
        super().setup(stage)
        if stage == "fit":
            self._fits = True
            self.begin_fit()

    def teardown(self, stage: str) -> None:
        """Ends a fit."""
        if stage == "fit":
            self._fits = False
            self.end_fit()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Rebuilds the heads, and begins the fit with them.

        Raises:
            ValueError: As :meth:`MultiHeadClassifier.on_load_checkpoint`.
        """
        super().on_load_checkpoint(checkpoint)
        if self._fits:
            self.begin_fit()


def fit_unpruned(
    model: UnprunedClassifier,
    datamodule: Any,
    *,
    task: str,
    prune_ratio: float | None,
    make_trainer: Callable[[Phase, pl.Callback], pl.Trainer],
    settled: Callable[[pl.LightningModule], None],
    resume: tuple[Phase, Path] | None = None,
) -> None:
    """Trains a task in a fit per phase of ``model``: all that it leaves trainable, and prunes nothing.

    Args:
        model: The classifier of a method.
        datamodule: Whatever ``Trainer.fit`` takes.
        task: Name of the task, for messages only.
        prune_ratio: Must be None.
        make_trainer: Called with the phase and a callback to use; returns a new Trainer.
        settled: Called with the module at the end of the last fit.
        resume: A phase and a Lightning checkpoint of it to go on from.

    Raises:
        DivergedError: If the loss, a parameter or a running statistic is not finite.
        ValueError: If a prune ratio is given, or a phase that the method does not have.
    """
    if prune_ratio is not None:
        raise ValueError(f"task {task!r}: prune ratio {prune_ratio} was given, but this method prunes nothing")
    first = resume[0] if resume else "train"
    if first not in model.phases:
        raise ValueError(f"task {task!r} cannot go on in phase {first!r}: this method has {list(model.phases)}")
    for phase in model.phases[model.phases.index(first) :]:
        model.fitted_phase = phase
        if phase == "train":
            model.teacher.drop()  # of a task that was given up
        trainer = make_trainer(phase, _FitEnd(model, task, settled))
        checkpoint = resume[1] if resume and phase == first else None
        trainer.fit(model, datamodule, ckpt_path=checkpoint, weights_only=True if checkpoint else None)


class _FitEnd(pl.Callback):
    """Ends a fit of ``model``, also one that fails, while its processes are still connected."""

    def __init__(self, model: UnprunedClassifier, task: str, settled: Callable[[pl.LightningModule], None]) -> None:
        self._model, self._task, self._settled, self._ended = model, task, settled, False
        self._untrained: UntrainedTensors | None = None

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        move_behind_averages(trainer, self)

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if averaging_callbacks(trainer.callbacks):  # type: ignore[attr-defined]
            self._untrained = UntrainedTensors(pl_module)

    def on_save_checkpoint(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if self._untrained is not None:
            self._untrained.freeze_in_(checkpoint["state_dict"])

    def on_train_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._ended = True

    def on_fit_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        if not self._ended:
            use_averages_of_skipped_training(trainer, pl_module)
        if self._untrained is not None:
            self._untrained.restore_(pl_module)
        let_observers_change_(trainer, pl_module)
        self._model.teardown("fit")
        # Statistics that each process gathered by itself become the first's.
        broadcast_([*pl_module.parameters(), *pl_module.buffers()])
        check_finite_weights(pl_module, self._task, self._model.phase)
        tell_observers(trainer, pl_module, self._task, "dense" if self._model.phase == "train" else "retrained")
        if self._model.phase == self._model.phases[-1]:
            self._model.teacher.drop()
            self._settled(pl_module)

    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        self._model.teardown("fit")  # Lightning calls it in a fit that ends well alone
