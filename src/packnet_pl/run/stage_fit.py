"""One fit of a run: a task, or several that are learned together, through the phases train and retrain."""

import time
from dataclasses import replace
from pathlib import Path

import pytorch_lightning as pl
from pytorch_lightning import seed_everything
from pytorch_lightning.callbacks import DeviceStatsMonitor, LearningRateMonitor
from pytorch_lightning.loggers import Logger

from packnet_pl.choices import Phase
from packnet_pl.data import derive_seed
from packnet_pl.data.epoch_steps import epoch_steps
from packnet_pl.distributed import wait_for_all
from packnet_pl.filter_history import write_filters
from packnet_pl.ratio_choice import RatioSearch
from packnet_pl.results import TaskResult
from packnet_pl.run.artifacts import is_main
from packnet_pl.run.checkpointing import SaveState
from packnet_pl.run.growth import make_room
from packnet_pl.run.logged_pruning import LogPruning
from packnet_pl.run.loggers import RunLoggers
from packnet_pl.run.metrics_history import MetricsHistory
from packnet_pl.run.plan import RunPlan, Stage, TaskPlan
from packnet_pl.run.probe import probe_images, save_probe
from packnet_pl.run.probe_logits import probe_logits
from packnet_pl.run.progress import RunProgress
from packnet_pl.run.ratio_search import search_ratio
from packnet_pl.run.signals import StopRequest
from packnet_pl.run.strategies import with_strategy
from packnet_pl.run.validation_record import ValidationRecord
from packnet_pl.run_directory import checkpoint_path, filters_path, probe_path
from packnet_pl.training import AtomicCheckpointIO, FilterSnapshots, MultiHeadClassifier, Reseed, TaskObserver

__all__ = ["fit_stage"]

# What is logged of single steps, as the learning rate may be: at most so many rows for loggers on the other side of a
# network, however long an epoch is. Losses and accuracies are logged once an epoch.
_ROWS_PER_EPOCH = 50


def fit_stage(
    plan: RunPlan,
    stage: Stage,
    model: MultiHeadClassifier,
    progress: RunProgress,
    resume: tuple[Phase, Path] | None,
    stop: StopRequest,
    loggers: RunLoggers,
) -> list[TaskResult]:
    """Adds the heads of a stage's tasks, and fits them as the plan's method does.

    Args:
        plan: Of the run.
        stage: Its tasks are not finished.
        model: With the tasks before them.
        progress: Shows each epoch.
        resume: Phase and checkpoint that the fit goes on from; None begins anew.
        stop: Asked where the fit can leave without losing anything.
        loggers: Of the run.

    Returns:
        One per task of the stage.
    """
    begun = time.perf_counter()
    model.recipes = stage.last.recipes
    make_room(plan.growth, model, stage.name, plan.seed)
    for task in stage.tasks:
        _add_head(plan, task, model)
    trainers = _Trainers(plan, stage, progress, stop, loggers)
    if stage.last.search is not None:
        trainers.stage, resume = _with_ratio(stage, stage.last.search, model, trainers, resume)

    def settled(module: pl.LightningModule) -> None:
        assert isinstance(module, MultiHeadClassifier)
        for task in stage.tasks:
            _save_probe(plan, task, module)
        wait_for_all()  # every process reads them

    plan.fit(
        model,
        trainers.datamodule,
        task=stage.name,
        prune_ratio=trainers.stage.last.prune_ratio,
        make_trainer=trainers.make,
        settled=settled,
        resume=resume,
    )
    if trainers.snapshots.history.snapshots and is_main():
        write_filters(filters_path(plan.folder, stage.last.name), trainers.snapshots.history)
    seconds = round(time.perf_counter() - begun, 3)
    return [_result(task, model, trainers.record, seconds) for task in trainers.stage.tasks]


class _Trainers:
    """Makes the Trainers of a stage, and has what they share.

    Args:
        plan: Of the run.
        stage: Its prune ratio is read when a Trainer is made.
        progress: As for :func:`fit_stage`.
        stop: Likewise.
        loggers: Likewise.
    """

    def __init__(
        self, plan: RunPlan, stage: Stage, progress: RunProgress, stop: StopRequest, loggers: RunLoggers
    ) -> None:
        self.plan, self.stage, self.progress = plan, stage, progress
        data = {task.name: plan.datamodule(task.name, task.data) for task in stage.tasks if task.data}
        self.record, self.datamodule = ValidationRecord(data), plan.datamodule(stage.name, stage.data)
        self.snapshots = FilterSnapshots()
        self._stop, self._loggers, self._tried = stop, loggers, False

    def make(self, phase: Phase, callback: pl.Callback, *observers: TaskObserver) -> pl.Trainer:
        """Makes a Trainer of the run, with the callback of its method."""
        name, folder = self.stage.last.name, self.plan.folder
        callbacks = [
            *self._begin(phase),
            self.record.callback(phase),
            callback,
            *observers,
            self.snapshots,
            LogPruning(self._loggers, self.stage, self.record),
            self.progress.callback(self.stage.name, phase),
            SaveState(checkpoint_path(folder, name, phase), every_n_steps=self.plan.every_n_steps, stop=self._stop),
        ]
        # The training before a trial is the task's own: it is logged, once.
        logged = [] if self._tried and phase == "train" else self._loggers.of_fit(self.stage, phase)
        self._tried = self._tried or bool(observers)
        return _trainer(self.plan, self.stage, phase, callbacks, logged)

    def make_for_trial(self, phase: Phase, callback: pl.Callback, observer: TaskObserver) -> pl.Trainer:
        """Makes a Trainer of a trial: what it retrains is neither saved nor logged."""
        if phase == "train":
            return self.make(phase, callback, observer)
        others = [made for made in self._begin(phase) if not isinstance(made, LearningRateMonitor | DeviceStatsMonitor)]
        callbacks = [*others, callback, observer, SaveState(None, every_n_steps=None, stop=self._stop)]
        return _trainer(self.plan, self.stage, phase, callbacks, [])

    def _begin(self, phase: Phase) -> list[pl.Callback]:
        self._stop.raise_if_asked()
        last, plan = self.stage.last, self.plan
        if phase == "retrain" and plan.trained is not None and last.name == plan.tasks[0].name:
            plan.trained(checkpoint_path(plan.folder, last.name, "train"))
        self.datamodule.key, self.datamodule.balanced = (plan.seed, self.stage.name, phase), phase in last.balanced
        # The user's come before those that have the last word on the weights, and record the end of a fit that one of
        # them stops.
        return [Reseed(seed=plan.seed, task=self.stage.name, phase=phase), *plan.make_callbacks(phase)]


def _with_ratio(
    stage: Stage,
    search: RatioSearch,
    model: MultiHeadClassifier,
    trainers: _Trainers,
    resume: tuple[Phase, Path] | None,
) -> tuple[Stage, tuple[Phase, Path] | None]:
    """Returns the stage with the prune ratio that is found, and where its fit goes on from then."""
    plan, progress = trainers.plan, trainers.progress
    chosen = search_ratio(
        plan, stage, search, model, trainers.datamodule, trainers.make_for_trial, resume, progress.record_trials
    )
    progress.end_search()
    dense = checkpoint_path(plan.folder, stage.last.name, "train")
    if dense.exists() and (resume is None or resume[0] == "train"):
        resume = ("train", dense)
    return Stage((replace(stage.last, prune_ratio=chosen),)), resume


def _add_head(plan: RunPlan, task: TaskPlan, model: MultiHeadClassifier) -> None:
    data = task.data
    assert data is not None, f"the data of {task.name!r} are needed to train it"
    seed_everything(derive_seed(plan.seed, task.name, "head"), verbose=False)
    model.add_task(
        task.name,
        num_classes=len(data.class_names),
        class_names=data.class_names,
        input_shape=data.input_shape,
        mean=data.mean,
        std=data.std,
        preparation=data.preparation,
        head=task.head,
    )


def _trainer(
    plan: RunPlan, stage: Stage, phase: Phase, callbacks: list[pl.Callback], loggers: list[Logger]
) -> pl.Trainer:
    steps = epoch_steps(len(stage.data.train), plan.batch_size, plan.accumulate).steps  # type: ignore[arg-type]
    return pl.Trainer(
        **with_strategy(plan.trainer),
        max_epochs=stage.last.epochs[phase],
        accumulate_grad_batches=plan.accumulate,
        callbacks=[*callbacks, MetricsHistory(loggers)],
        plugins=[AtomicCheckpointIO(), *([plan.environment] if plan.environment else [])],
        logger=loggers or False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=max(1, steps // _ROWS_PER_EPOCH),
    )


def _save_probe(plan: RunPlan, task: TaskPlan, model: MultiHeadClassifier) -> None:
    assert task.data is not None
    images = probe_images(task.data.test)
    # The task is not finished yet, so the live network computes, and no subnetwork has a part in it.
    logits = probe_logits(model, task.name, images)
    if logits is not None and is_main():
        save_probe(probe_path(plan.folder, task.name), images, logits)


def _result(task: TaskPlan, model: MultiHeadClassifier, record: ValidationRecord, seconds: float) -> TaskResult:
    assert task.data is not None
    return TaskResult(
        name=task.name,
        num_classes=len(task.data.class_names),
        # Those of the packed file: a task that an earlier version began has the names of its checkpoint.
        class_names=list(model.heads.infos[task.name].class_names),
        prune_ratio=task.prune_ratio,
        owned=model.packnet.summary().total.fraction(task.name) if model.packnet else None,
        seconds=seconds,
        test_size=len(task.data.test),  # type: ignore[arg-type]
        val_accuracy=record.values[task.name],
    )
