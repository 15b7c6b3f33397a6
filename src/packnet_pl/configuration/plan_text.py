"""The plan of a run as text: its tasks, the time they take, and their size on disk."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from omegaconf import DictConfig
from rich.box import SIMPLE_HEAD
from rich.table import Table

from packnet_pl.configuration.components import Parts
from packnet_pl.configuration.task_settings import TaskSettings
from packnet_pl.configuration.timing import duration, reading_seconds, training_seconds
from packnet_pl.counting import counted
from packnet_pl.data import TaskData
from packnet_pl.data.epoch_steps import EpochSteps, epoch_steps
from packnet_pl.packed import NetworkPerTask
from packnet_pl.training.trainer_checks import CONVERTING

__all__ = ["plan_table", "storage_lines", "time_lines"]


def plan_table(config: DictConfig, parts: Parts) -> Table:
    """Returns a table with a row per task that is to be trained."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    table.add_column("task")
    images, owned = "images\ntrain / val / test", f"{config.prune.granularity}s\nowned"
    for heading in ("classes", images, "ratio", owned, "free\nthen", "epochs", "steps"):
        table.add_column(heading, justify="right")
    for task in _to_train(parts):
        data = _data(parts, task)
        sizes: list[int] = [len(split) for split in data.splits.values()]  # type: ignore[arg-type]
        owned, free = (f"{units:,}" for units in parts.shares[task.name]) if parts.shares else ("-", "-")
        table.add_row(
            task.name,
            str(len(data.class_names)),
            " / ".join(f"{size:,}" for size in sizes),
            "-" if task.prune_ratio is None else f"{task.prune_ratio:g}",
            owned,
            free,
            " + ".join(str(phase.epochs) for phase in task.phases.values()),
            # Those of all tasks together have a line of their own.
            "-" if config.method.together else f"{_epochs(task) * _steps(config, parts, [task]).steps:,}",
        )
    return table


def time_lines(config: DictConfig, parts: Parts) -> Iterator[str]:
    """Yields a line per fit with its steps, images left out and estimated time; and the total time."""
    tasks = _to_train(parts)
    known: dict[tuple[tuple[int, ...], int], float | None] = {}
    total: float | None = 0.0
    for fitted in [tasks] if config.method.together else [[task] for task in tasks]:
        data, epoch = _data(parts, fitted[-1]), _steps(config, parts, fitted)
        kind = (tuple(data.input_shape), epoch.batch_size)
        if kind not in known:
            known[kind] = training_seconds(parts.model.backbone, *kind, parts.device)
        each, time = known[kind], "time not known"
        if each is None:
            total = None
        else:
            seconds = _per_image(each, reading_seconds(data.train), config.optim.num_workers)
            seconds *= epoch.batch_size * epoch.batches * _epochs(fitted[-1])
            total, time = (None if total is None else total + seconds), duration(seconds)
        size = _size(parts, fitted)
        left_out = f", {epoch.left_out:,} of {counted(size, 'image')} left out by the last batch"
        yield (
            f"training {' + '.join(task.name for task in fitted)}: {counted(epoch.steps, 'step')} of "
            f"{config.optim.batch_size:,} an epoch{left_out if epoch.left_out else ''}; {time}"
        )
    if total is not None:
        yield f"time: {duration(total)} on {parts.device}, from a batch that was timed; testing comes on top"


def storage_lines(parts: Parts) -> Iterator[str]:
    """Yields the number of parameters, and about how large the packed file will be."""
    tasks, model = _to_train(parts), parts.model
    weights = sum(parameter.numel() for parameter in model.backbone.parameters())
    summary = model.packnet.summary() if model.packnet else None
    prunable = summary.total.weights if summary else 0
    heads = sum((model.heads.num_features + 1) * len(_data(parts, task).class_names) for task in tasks)
    # Free weights are not stored, and an owner takes at most this many bits.
    free = list(parts.shares.values())[-1][1] if parts.shares else 0
    owner_bytes = prunable * math.log2(len(parts.tasks) + 1) / 8
    weight_bytes = CONVERTING.get(parts.precision, torch.float32).itemsize
    separate = weight_bytes * (weights * len(tasks) + heads)
    shared = weight_bytes * (weights - free + heads) + owner_bytes
    packed = separate if isinstance(model, NetworkPerTask) else shared
    usable = f"; {summary.usable:.2%} of all can be used by later tasks" if summary else ""
    yield f"backbone: {weights:,} parameters, {prunable:,} of them prunable{usable}"
    networks = counted(len(tasks), "separate network")
    yield f"storage: about {packed / 1e6:,.1f} MB packed; {separate / 1e6:,.1f} MB as {networks}"


def _to_train(parts: Parts) -> list[TaskSettings]:
    return [task for task in parts.tasks if not task.finished]


def _data(parts: Parts, task: TaskSettings) -> TaskData:
    data = parts.data[task.name]
    assert data is not None, f"the data of {task.name!r} are needed to train it"
    return data


def _size(parts: Parts, tasks: list[TaskSettings]) -> int:
    splits: list[Any] = [_data(parts, task).train for task in tasks]
    return sum(map(len, splits))


def _steps(config: DictConfig, parts: Parts, tasks: list[TaskSettings]) -> EpochSteps:
    return epoch_steps(_size(parts, tasks), config.optim.batch_size, config.optim.accumulate, parts.processes)


def _epochs(task: TaskSettings) -> int:
    return sum(phase.epochs for phase in task.phases.values())


def _per_image(training: float, reading: float, num_workers: int) -> float:
    """Returns the seconds per image, read by the training process itself or by workers beside it."""
    return max(training, reading / num_workers) if num_workers else training + reading
