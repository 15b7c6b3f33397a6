"""The task loop: fit each task, then ask all tasks so far what they still know."""

import logging
import time
from collections.abc import Sequence

import pytorch_lightning as pl
import torch
from pytorch_lightning import seed_everything
from rich.console import Console

from packnet_pl.core import Phase
from packnet_pl.core.bits import same_bits
from packnet_pl.data import TaskDataModule, derive_seed
from packnet_pl.run.journal import Entry, read_entries
from packnet_pl.run.outcome import gather_results, is_main, write_outcome
from packnet_pl.run.places import checkpoint_path, journal_path, probe_path, task_folder
from packnet_pl.run.plan import RunPlan, TaskPlan
from packnet_pl.run.probe import load_probe, probe_pictures, save_probe
from packnet_pl.run.progress import RunProgress
from packnet_pl.run.record import ValidationRecord
from packnet_pl.run.results import Results, TaskResult
from packnet_pl.run.saving import SaveState
from packnet_pl.run.scores import Scores, measure_together
from packnet_pl.run.start import Start, find_start
from packnet_pl.run.stopping import StopRequest
from packnet_pl.training import AtomicCheckpointIO, Reseed, TaskClassifier

__all__ = ["run_sequence"]

_log = logging.getLogger(__name__)


def run_sequence(plan: RunPlan, model: TaskClassifier, console: Console, stop: StopRequest) -> Results:
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
        write_outcome(plan, model, entries)  # a killed run may have left it one task behind
    todo = plan.tasks[start.finished :]
    with RunProgress(console, sum(sum(task.epochs.values()) for task in todo)) as progress:
        for number, task in enumerate(todo, start=start.finished + 1):
            stop.raise_if_asked()
            result = _fit(plan, task, model, progress, start, stop)
            start = Start(number)
            entry = _evaluate(plan, plan.tasks[:number], model, entries, result)
            entries.append(entry)
            if is_main():
                entry.write(journal_path(plan.folder, task.name))
                write_outcome(plan, model, entries)
            _wait_for_all()
    return gather_results(plan, model, entries)


def _fit(
    plan: RunPlan, task: TaskPlan, model: TaskClassifier, progress: RunProgress, start: Start, stop: StopRequest
) -> TaskResult:
    begun = time.perf_counter()
    data = task.data
    assert data is not None, f"the data of {task.name!r} are needed to train it"
    seed_everything(derive_seed(plan.seed, task.name, "head"), verbose=False)
    model.recipes = task.recipes
    model.add_task(
        task.name,
        num_classes=len(data.class_names),
        class_names=data.class_names,
        input_shape=data.input_shape,
        mean=data.mean,
        std=data.std,
        head=task.head,
    )
    record = ValidationRecord(task.name)
    datamodule = _datamodule(plan, task)

    def make_trainer(phase: Phase, callback: pl.Callback) -> pl.Trainer:
        stop.raise_if_asked()
        if phase == "retrain" and plan.trained is not None and task is plan.tasks[0]:
            plan.trained(checkpoint_path(plan.folder, task.name, "train"))
        datamodule.key = (plan.seed, task.name, phase)
        callbacks = [
            Reseed(seed=plan.seed, task=task.name, phase=phase),
            record.callback(phase),
            callback,
            progress.callback(task.name, phase),
            SaveState(checkpoint_path(plan.folder, task.name, phase), every_n_steps=plan.every_n_steps, stop=stop),
        ]
        return _trainer(plan, task, phase, callbacks)

    def settled(module: pl.LightningModule) -> None:
        assert isinstance(module, TaskClassifier)
        pictures = probe_pictures(data.test)
        # The task is not finished yet, so the live network answers, and no subnetwork has a part in it.
        with module.answering(task.name) as logits, torch.no_grad():
            answer = logits(pictures)
        if is_main():
            save_probe(probe_path(plan.folder, task.name), pictures, answer)
        _wait_for_all()  # every process reads it

    plan.fit(
        model,
        datamodule,
        task=task.name,
        prune_ratio=task.prune_ratio,
        make_trainer=make_trainer,
        settled=settled,
        resume=start.resume,
    )
    owned = model.packnet.summary().total.fraction(task.name) if model.packnet else None
    return TaskResult(
        name=task.name,
        num_classes=len(data.class_names),
        class_names=list(data.class_names),
        prune_ratio=task.prune_ratio,
        owned=owned,
        seconds=round(time.perf_counter() - begun, 3),
        test_size=len(data.test),  # type: ignore[arg-type]
        val_accuracy=record.values,
    )


def _trainer(plan: RunPlan, task: TaskPlan, phase: Phase, callbacks: list[pl.Callback]) -> pl.Trainer:
    folder = task_folder(plan.folder, task.name)
    return pl.Trainer(
        **plan.trainer,
        max_epochs=task.epochs[phase],
        accumulate_grad_batches=plan.accumulate,
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO(), *([plan.environment] if plan.environment else [])],
        logger=plan.make_logger(folder, phase) if plan.make_logger else False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )


def _datamodule(plan: RunPlan, task: TaskPlan) -> TaskDataModule:
    assert task.data is not None
    return TaskDataModule(
        task.data,
        key=(plan.seed, task.name),
        batch_size=plan.batch_size,
        accumulate=plan.accumulate,
        num_workers=plan.num_workers,
    )


def _evaluate(
    plan: RunPlan, tasks: Sequence[TaskPlan], model: TaskClassifier, before: Sequence[Entry], result: TaskResult
) -> Entry:
    """Asks every task so far: its accuracy now, and whether its probe's answers are the same bits."""
    unchanged: list[bool | None] = []
    for task in tasks:
        probe = probe_path(plan.folder, task.name)
        if not probe.exists():
            unchanged.append(None)
            continue
        pictures, then = load_probe(probe)
        with model.answering(task.name) as logits, torch.no_grad():
            unchanged.append(same_bits(logits(pictures), then))
    scores: dict[str, Scores] = {}
    model.to(plan.device)
    for task in tasks:
        if task.data is None:
            scores[task.name] = before[-1].scores[task.name]
            continue
        with model.answering(task.name) as logits:
            num_classes = len(task.data.class_names)
            scores[task.name] = measure_together(logits, _datamodule(plan, task), "test", num_classes, plan.device)
    # A fit leaves the module on the CPU, and the probes are asked there.
    model.cpu()
    return Entry(result, scores, unchanged)


def _wait_for_all() -> None:
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
