"""The task loop: fit each task, then ask all tasks so far what they still know."""

import logging
import time
from collections.abc import Sequence
from dataclasses import asdict

import pytorch_lightning as pl
import torch
from pytorch_lightning import seed_everything
from rich.console import Console

from packnet_pl.choices import Phase
from packnet_pl.core.bits import same_bits
from packnet_pl.data import TaskData, derive_seed
from packnet_pl.run.artifacts import gather_results, is_main, write_outcome
from packnet_pl.run.checkpointing import SaveState
from packnet_pl.run.data_record import keep_record
from packnet_pl.run.metrics import Scores, measure_together
from packnet_pl.run.metrics_history import MetricsHistory
from packnet_pl.run.plan import RunPlan, Stage, TaskPlan
from packnet_pl.run.probe import load_probe, probe_images, save_probe
from packnet_pl.run.progress import RunProgress
from packnet_pl.run.results import Results, TaskResult
from packnet_pl.run.resume_point import Start, find_start
from packnet_pl.run.signals import StopRequest
from packnet_pl.run.task_record import Entry, read_entries
from packnet_pl.run.validation_record import ValidationRecord
from packnet_pl.run_directory import checkpoint_path, journal_path, probe_path, task_folder
from packnet_pl.training import AtomicCheckpointIO, MultiHeadClassifier, Reseed, TaskDataModule

__all__ = ["run_sequence"]

_log = logging.getLogger(__name__)


def run_sequence(plan: RunPlan, model: MultiHeadClassifier, console: Console, stop: StopRequest) -> Results:
    """Trains all tasks in turn; after each it writes ``results.json``, the packed file and the figure.

    It goes on from what lies in the run directory already.

    Args:
        plan: What to do.
        model: Without tasks yet.
        console: For progress.
        stop: Asked where the run can leave without losing anything.

    Returns:
        The results, complete.

    Raises:
        CapacityError: If the earlier tasks left no weight free for a task.
        FloatingPointError: If a loss is not finite; the finished tasks are on disk.
        StoppedError: If it was asked to stop.
    """
    start = find_start(plan, model)
    names = [task.name for task in plan.tasks]
    entries = read_entries(plan.folder, names[: start.finished])
    if start.resume is not None:
        _log.info("%s goes on from %s", names[start.finished], start.resume[1])
    if model.tasks and is_main():
        for task in plan.tasks[: start.finished]:
            _note_data(plan, task)
        write_outcome(plan, model, entries)  # a killed run may have left it one task behind
    todo = [stage for stage in plan.stages if stage.last.name not in names[: start.finished]]
    with RunProgress(console, sum(sum(stage.last.epochs.values()) for stage in todo)) as progress:
        for stage in todo:
            stop.raise_if_asked()
            results = _fit(plan, stage, model, progress, start, stop)
            start = Start(len(entries) + len(results))
            new = _evaluate(plan, plan.tasks[: start.finished], model, entries, results)
            entries += new
            if is_main():
                for entry in new:
                    entry.write(journal_path(plan.folder, entry.task.name))
                write_outcome(plan, model, entries)
            _wait_for_all()
    return gather_results(plan, model, entries)


def _fit(
    plan: RunPlan, stage: Stage, model: MultiHeadClassifier, progress: RunProgress, start: Start, stop: StopRequest
) -> list[TaskResult]:
    begun = time.perf_counter()
    model.recipes = stage.last.recipes
    for task in stage.tasks:
        if is_main():
            _note_data(plan, task)
        _add(plan, task, model)
    record = ValidationRecord({task.name: _datamodule(plan, task.name, task.data) for task in stage.tasks if task.data})
    datamodule = _datamodule(plan, stage.name, stage.data)

    def make_trainer(phase: Phase, callback: pl.Callback) -> pl.Trainer:
        stop.raise_if_asked()
        path = checkpoint_path(plan.folder, stage.last.name, phase)
        if phase == "retrain" and plan.trained is not None and stage.last is plan.tasks[0]:
            plan.trained(checkpoint_path(plan.folder, stage.last.name, "train"))
        datamodule.key = (plan.seed, stage.name, phase)
        callbacks = [
            Reseed(seed=plan.seed, task=stage.name, phase=phase),
            record.callback(phase),
            callback,
            progress.callback(stage.name, phase),
            SaveState(path, every_n_steps=plan.every_n_steps, stop=stop),
        ]
        return _trainer(plan, stage.last, phase, callbacks)

    def settled(module: pl.LightningModule) -> None:
        assert isinstance(module, MultiHeadClassifier)
        for task in stage.tasks:
            assert task.data is not None
            images = probe_images(task.data.test)
            # The task is not finished yet, so the live network computes, and no subnetwork has a part in it.
            with module.predicting(task.name) as logits, torch.no_grad():
                answer = logits(images)
            if is_main():
                save_probe(probe_path(plan.folder, task.name), images, answer)
        _wait_for_all()  # every process reads them

    plan.fit(
        model,
        datamodule,
        task=stage.name,
        prune_ratio=stage.last.prune_ratio,
        make_trainer=make_trainer,
        settled=settled,
        resume=start.resume,
    )
    seconds = round(time.perf_counter() - begun, 3)
    return [_result(task, model, record, seconds) for task in stage.tasks]


def _note_data(plan: RunPlan, task: TaskPlan) -> None:
    if task.data is not None:
        keep_record(plan.folder, task.name, task.data)


def _add(plan: RunPlan, task: TaskPlan, model: MultiHeadClassifier) -> None:
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


def _trainer(plan: RunPlan, task: TaskPlan, phase: Phase, callbacks: list[pl.Callback]) -> pl.Trainer:
    folder = task_folder(plan.folder, task.name)
    logger = plan.make_logger(folder, phase) if plan.make_logger else None
    return pl.Trainer(
        **plan.trainer,
        max_epochs=task.epochs[phase],
        accumulate_grad_batches=plan.accumulate,
        callbacks=[*callbacks, MetricsHistory(logger)],
        plugins=[AtomicCheckpointIO(), *([plan.environment] if plan.environment else [])],
        logger=logger or False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )


def _datamodule(plan: RunPlan, name: str, data: TaskData) -> TaskDataModule:
    return TaskDataModule(
        data,
        key=(plan.seed, name),
        batch_size=plan.batch_size,
        accumulate=plan.accumulate,
        num_workers=plan.num_workers,
    )


def _evaluate(
    plan: RunPlan,
    tasks: Sequence[TaskPlan],
    model: MultiHeadClassifier,
    before: Sequence[Entry],
    results: Sequence[TaskResult],
) -> list[Entry]:
    """Asks every task so far: its accuracy now, and whether its probe's answers are the same bits."""
    unchanged: list[bool | None] = []
    for task in tasks:
        probe = probe_path(plan.folder, task.name)
        if not probe.exists():
            unchanged.append(None)
            continue
        images, then = load_probe(probe)
        with model.predicting(task.name) as logits, torch.no_grad():
            unchanged.append(same_bits(logits(images), then))
    scores: dict[str, Scores] = {}
    val_now: dict[str, float | None] = {}
    model.to(plan.device)
    for task in tasks:
        if task.data is None:
            scores[task.name], val_now[task.name] = before[-1].scores[task.name], before[-1].val_now.get(task.name)
            continue
        num_classes = len(task.data.class_names)
        datamodule = _datamodule(plan, task.name, task.data)
        with model.predicting(task.name) as logits:
            scores[task.name] = measure_together(logits, datamodule, "test", num_classes, plan.device)
            val_now[task.name] = measure_together(logits, datamodule, "val", num_classes, plan.device).top1
    # A fit leaves the module on the CPU, and the probes are asked there.
    model.cpu()
    data = dict(before[-1].data) if before else {}
    data |= {task.name: asdict(task.data.inventory)["splits"] for task in tasks if task.data is not None}
    return [
        *(Entry(result, {}, [], {}) for result in results[:-1]),
        Entry(results[-1], scores, unchanged, val_now, data),
    ]


def _wait_for_all() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
