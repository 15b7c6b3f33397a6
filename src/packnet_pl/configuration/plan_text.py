"""The plan of a run as text: its tasks, and their size on disk."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from omegaconf import DictConfig
from rich.box import SIMPLE_HEAD
from rich.table import Table

from packnet_pl.configuration.components import Parts
from packnet_pl.configuration.recorded_settings import further_settings
from packnet_pl.configuration.task_settings import TaskSettings
from packnet_pl.counting import counted
from packnet_pl.data import TaskData
from packnet_pl.data.epoch_steps import EpochSteps, epoch_steps
from packnet_pl.packed import NetworkPerTask
from packnet_pl.training.trainer_checks import CONVERTING

__all__ = [
    "data_of",
    "growth_lines",
    "plan_table",
    "recalibration_lines",
    "setting_lines",
    "size_of",
    "steps_of",
    "storage_lines",
    "to_train",
]


def plan_table(config: DictConfig, parts: Parts) -> Table:
    """Returns a table with a row per task that is to be trained."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("task")
    images, owned = "images\ntrain / val / test", f"{config.prune.granularity}s\nowned"
    for heading in ("classes", images, "ratio", owned, "free\nthen", "epochs", "steps"):
        table.add_column(heading, justify="right")
    for task in to_train(parts):
        data = data_of(parts, task)
        sizes: list[int] = [len(split) for split in data.splits.values()]  # type: ignore[arg-type]
        owned, free = (f"{units:,}" for units in parts.shares[task.name]) if parts.shares else ("-", "-")
        table.add_row(
            task.name,
            str(len(data.class_names)),
            " / ".join(f"{size:,}" for size in sizes),
            "-" if task.prune_ratio is None else f"{'at least ' if task.search else ''}{task.prune_ratio:.3g}",
            owned,
            free,
            " + ".join(str(phase.epochs) for phase in task.phases.values()),
            # Those of all tasks together have a line of their own.
            "-" if config.method.together else f"{_epochs(task) * steps_of(config, parts, [task]).steps:,}",
        )
    return table


def storage_lines(parts: Parts) -> Iterator[str]:
    """Yields the number of parameters, and about how large the packed file will be."""
    tasks, model = to_train(parts), parts.model
    begins = sum(parameter.numel() for parameter in model.backbone.parameters())
    summary = model.packnet.summary() if model.packnet else None
    prunable = summary.total.weights if summary else 0
    weights, features, each, heads = begins, model.heads.num_features, 0, 0
    for task in tasks:
        if task.name in parts.grown:
            wider = parts.grown[task.name]
            weights, features = wider.parameters, wider.num_features
        each += weights
        heads += (features + 1) * len(data_of(parts, task).class_names)
    divided = sum(list(parts.grown.values())[-1].weights.values()) if parts.grown else prunable
    # Free weights are not stored, and an owner takes at most this many bits.
    free = list(parts.shares.values())[-1][1] if parts.shares else 0
    owner_bytes = divided * math.log2(len(parts.tasks) + 1) / 8
    weight_bytes = CONVERTING.get(parts.precision, torch.float32).itemsize
    separate = weight_bytes * (each + heads)
    shared = weight_bytes * (weights - free + heads) + owner_bytes
    packed = separate if isinstance(model, NetworkPerTask) else shared
    usable = f"; {summary.usable:.2%} of all can be used by later tasks" if summary else ""
    yield f"backbone: {begins:,} parameters, {prunable:,} of them prunable{usable}"
    networks = counted(len(tasks), "separate network")
    yield f"storage: about {packed / 1e6:,.1f} MB packed; {separate / 1e6:,.1f} MB as {networks}"


def growth_lines(parts: Parts) -> Iterator[str]:
    """Yields for which tasks the network will grow, and to what."""
    for task, wider in parts.grown.items():
        arguments = ", ".join(f"{key}={value}" for key, value in wider.builder["arguments"].items())
        yield (
            f"grows for {task}: {wider.builder['name']}({arguments}), {wider.parameters:,} parameters, "
            f"{sum(wider.weights.values()):,} of them prunable"
        )


def setting_lines(config: DictConfig) -> Iterator[str]:
    """Yields a line on what is set that the paper does not have."""
    found = further_settings(config)
    if found:
        yield f"further settings: {', '.join(f'{name} {value}' for name, value in found.items())}"


def recalibration_lines(config: DictConfig) -> Iterator[str]:
    """Yields a line where norms are recalibrated, and later tasks may change none."""
    targets = [str(callback.get("_target_")) for callback in (config.get("callbacks") or {}).values()]
    shared = config.method.pack and config.norm == "shared"
    if shared and any(target.endswith(".RecalibrateNorms") for target in targets):
        yield "recalibrated norms: the first task's alone; later tasks share them, and change none (norm=per_task)"


def to_train(parts: Parts) -> list[TaskSettings]:
    """Returns the tasks that are not finished, in order."""
    return [task for task in parts.tasks if not task.finished]


def data_of(parts: Parts, task: TaskSettings) -> TaskData:
    """Returns the data of a task that is to be trained."""
    data = parts.data[task.name]
    assert data is not None, f"the data of {task.name!r} are needed to train it"
    return data


def size_of(parts: Parts, tasks: list[TaskSettings]) -> int:
    """Returns the number of training images of tasks that are learned together."""
    splits: list[Any] = [data_of(parts, task).train for task in tasks]
    return sum(map(len, splits))


def steps_of(config: DictConfig, parts: Parts, tasks: list[TaskSettings]) -> EpochSteps:
    """Returns the steps of an epoch of tasks that are learned together."""
    return epoch_steps(size_of(parts, tasks), config.optim.batch_size, config.optim.accumulate, parts.processes)


def _epochs(task: TaskSettings) -> int:
    return sum(phase.epochs for phase in task.phases.values())
