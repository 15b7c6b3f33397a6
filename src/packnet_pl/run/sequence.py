"""The task loop: fit each task, then ask all tasks so far what they still know."""

import time
from pathlib import Path

import pytorch_lightning as pl
import torch
from pytorch_lightning import seed_everything
from pytorch_lightning.callbacks import ModelCheckpoint
from rich.console import Console

from packnet_pl.core import Phase
from packnet_pl.data import TaskDataModule, derive_seed
from packnet_pl.packed import save_packed
from packnet_pl.report import draw_ownership
from packnet_pl.run.plan import RunPlan, TaskPlan, task_folder
from packnet_pl.run.probe import load_probe, probe_pictures, same_bits, save_probe
from packnet_pl.run.progress import RunProgress
from packnet_pl.run.record import ValidationRecord
from packnet_pl.run.results import Results, TaskResult
from packnet_pl.run.scores import measure, write_accuracy_csv, write_class_csv
from packnet_pl.training import AtomicCheckpointIO, Reseed, TaskClassifier

__all__ = ["run_sequence"]


def run_sequence(plan: RunPlan, model: TaskClassifier, console: Console) -> Results:
    """Trains all tasks in turn; after each it writes ``results.json``, the packed file and the figure.

    Args:
        plan: What to do.
        model: Without tasks yet.
        console: For progress.

    Returns:
        The results, complete.

    Raises:
        CapacityError: If the earlier tasks left no weight free for a task.
        FloatingPointError: If a loss is not finite; the finished tasks are on disk.
    """
    results = Results(plan.method, plan.arch, plan.seed)
    with RunProgress(console, sum(sum(task.epochs.values()) for task in plan.tasks)) as progress:
        for number, task in enumerate(plan.tasks, start=1):
            result = _fit(plan, task, model, progress)
            results.tasks.append(result)
            _evaluate(plan, plan.tasks[:number], model, results)
            results.complete = number == len(plan.tasks)
            _write(plan, model, results)
    return results


def _fit(plan: RunPlan, task: TaskPlan, model: TaskClassifier, progress: RunProgress) -> TaskResult:
    start = time.perf_counter()
    data = task.data
    seed_everything(derive_seed(plan.seed, task.name, "head"), verbose=False)
    model.recipes = task.recipes
    model.add_task(
        task.name,
        num_classes=len(data.class_names),
        class_names=data.class_names,
        input_shape=data.input_shape,
        mean=data.mean,
        std=data.std,
    )
    record = ValidationRecord(task.name)
    datamodule = _datamodule(plan, task)

    def make_trainer(phase: Phase, callback: pl.Callback) -> pl.Trainer:
        datamodule.key = (plan.seed, task.name, phase)
        callbacks = [
            Reseed(seed=plan.seed, task=task.name, phase=phase),
            record.callback(phase),
            callback,
            progress.callback(task.name, phase),
        ]
        return _trainer(plan, task, phase, callbacks)

    def settled(module: pl.LightningModule) -> None:
        assert isinstance(module, TaskClassifier)
        pictures = probe_pictures(data.test)
        # The task is not finished yet, so the live network answers, and no subnetwork has a part in it.
        with module.answering(task.name) as logits, torch.no_grad():
            answer = logits(pictures)
        if _is_main():
            save_probe(_probe_path(plan, task.name), pictures, answer)
        if torch.distributed.is_initialized():
            torch.distributed.barrier()  # every process reads it

    plan.fit(
        model, datamodule, task=task.name, prune_ratio=task.prune_ratio, make_trainer=make_trainer, settled=settled
    )
    owned = model.packnet.summary().total.fraction(task.name) if model.packnet else None
    return TaskResult(
        name=task.name,
        num_classes=len(data.class_names),
        class_names=list(data.class_names),
        prune_ratio=task.prune_ratio,
        owned=owned,
        seconds=round(time.perf_counter() - start, 3),
        test_size=len(data.test),  # type: ignore[arg-type]
        val_accuracy=record.values,
    )


def _trainer(plan: RunPlan, task: TaskPlan, phase: Phase, callbacks: list[pl.Callback]) -> pl.Trainer:
    folder = task_folder(plan.folder, task.name)
    checkpoint = ModelCheckpoint(
        folder / phase, filename="last", enable_version_counter=False, save_on_train_epoch_end=True
    )
    return pl.Trainer(
        **plan.trainer,
        max_epochs=task.epochs[phase],
        callbacks=[*callbacks, checkpoint],
        plugins=[AtomicCheckpointIO()],
        logger=plan.make_logger(folder, phase) if plan.make_logger else False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )


def _datamodule(plan: RunPlan, task: TaskPlan) -> TaskDataModule:
    return TaskDataModule(
        task.data, key=(plan.seed, task.name), batch_size=plan.batch_size, num_workers=plan.num_workers
    )


def _evaluate(plan: RunPlan, tasks: tuple[TaskPlan, ...], model: TaskClassifier, results: Results) -> None:
    """Asks every task so far: a new row of accuracies, and whether the probes' answers are the same bits."""
    unchanged = []
    for task in tasks:
        pictures, before = load_probe(_probe_path(plan, task.name))
        with model.answering(task.name) as logits, torch.no_grad():
            unchanged.append(same_bits(logits(pictures), before))
    row = {}
    model.to(plan.device)
    for task in tasks:
        with model.answering(task.name) as logits:
            loader = _datamodule(plan, task).test_dataloader()
            row[task.name] = measure(logits, loader, len(task.data.class_names), plan.device)
    # A fit leaves the module on the CPU, and the probes are asked there.
    model.cpu()
    results.scores.append(row)
    results.outputs_unchanged = unchanged


def _write(plan: RunPlan, model: TaskClassifier, results: Results) -> None:
    if not _is_main():
        return
    packed = plan.folder / "packed.safetensors"
    save_packed(model, packed)
    parameters = list(model.backbone.parameters())
    backbone_bytes = sum(parameter.numel() * parameter.element_size() for parameter in parameters)
    head_bytes = sum(parameter.numel() * parameter.element_size() for parameter in model.heads.parameters())
    results.storage = {
        "dense_bytes": len(results.tasks) * backbone_bytes + head_bytes,
        "packed_bytes": packed.stat().st_size,
        "owner_bits_per_weight": 0.0,
    }
    if model.packnet is not None:
        summary = model.packnet.summary()
        results.free = summary.total.free_fraction
        owner_bytes = sum(owner.numel() * owner.element_size() for owner in model.packnet.owners.values())
        results.storage["owner_bits_per_weight"] = 8 * owner_bytes / summary.total.weights
        draw_ownership(summary, plan.folder / "report" / "ownership.png")
    write_accuracy_csv(plan.folder / "report" / "accuracy.csv", results.scores)
    class_names = {task.name: task.class_names for task in results.tasks}
    write_class_csv(plan.folder / "report" / "per_class.csv", results.scores[-1], class_names)
    results.write(plan.folder / "results.json")


def _probe_path(plan: RunPlan, task: str) -> Path:
    return task_folder(plan.folder, task) / "probe.safetensors"


def _is_main() -> bool:
    return not torch.distributed.is_initialized() or torch.distributed.get_rank() == 0
