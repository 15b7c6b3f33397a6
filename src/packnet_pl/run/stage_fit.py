"""One fit of a run: a task, or several that are learned together, through the phases train and retrain."""

import time
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning import seed_everything
from pytorch_lightning.loggers import Logger

from packnet_pl.choices import Phase
from packnet_pl.data import derive_seed
from packnet_pl.data.epoch_steps import epoch_steps
from packnet_pl.distributed import wait_for_all
from packnet_pl.filter_history import write_filters
from packnet_pl.results import TaskResult
from packnet_pl.run.artifacts import is_main
from packnet_pl.run.checkpointing import SaveState
from packnet_pl.run.growth import make_room
from packnet_pl.run.logged_pruning import LogPruning
from packnet_pl.run.loggers import RunLoggers
from packnet_pl.run.metrics_history import MetricsHistory
from packnet_pl.run.plan import RunPlan, Stage, TaskPlan
from packnet_pl.run.probe import probe_images, save_probe
from packnet_pl.run.progress import RunProgress
from packnet_pl.run.signals import StopRequest
from packnet_pl.run.validation_record import ValidationRecord
from packnet_pl.run_directory import checkpoint_path, filters_path, probe_path
from packnet_pl.training import AtomicCheckpointIO, FilterSnapshots, MultiHeadClassifier, Reseed

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
    record = ValidationRecord({task.name: plan.datamodule(task.name, task.data) for task in stage.tasks if task.data})
    datamodule = plan.datamodule(stage.name, stage.data)
    snapshots = FilterSnapshots()

    def make_trainer(phase: Phase, callback: pl.Callback) -> pl.Trainer:
        stop.raise_if_asked()
        if phase == "retrain" and plan.trained is not None and stage.last is plan.tasks[0]:
            plan.trained(checkpoint_path(plan.folder, stage.last.name, "train"))
        datamodule.key, datamodule.balanced = (plan.seed, stage.name, phase), phase in stage.last.balanced
        callbacks = [
            Reseed(seed=plan.seed, task=stage.name, phase=phase),
            # Before those that have the last word on the weights, and record the end of a fit that one of them stops.
            *plan.make_callbacks(),
            record.callback(phase),
            callback,
            snapshots,
            LogPruning(loggers, stage, record),
            progress.callback(stage.name, phase),
            SaveState(
                checkpoint_path(plan.folder, stage.last.name, phase), every_n_steps=plan.every_n_steps, stop=stop
            ),
        ]
        return _trainer(plan, stage, phase, callbacks, loggers.of_fit(stage, phase))

    def settled(module: pl.LightningModule) -> None:
        assert isinstance(module, MultiHeadClassifier)
        for task in stage.tasks:
            _save_probe(plan, task, module)
        wait_for_all()  # every process reads them

    plan.fit(
        model,
        datamodule,
        task=stage.name,
        prune_ratio=stage.last.prune_ratio,
        make_trainer=make_trainer,
        settled=settled,
        resume=resume,
    )
    if snapshots.history.snapshots and is_main():
        write_filters(filters_path(plan.folder, stage.last.name), snapshots.history)
    seconds = round(time.perf_counter() - begun, 3)
    return [_result(task, model, record, seconds) for task in stage.tasks]


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
        **plan.trainer,
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
    with model.predicting(task.name) as predict, torch.no_grad():
        logits = predict(images)
    if is_main():
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
