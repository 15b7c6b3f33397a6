"""The times of a plan as text: per fit, and of the whole sequence."""

from collections.abc import Iterator, Sequence
from typing import Any

from omegaconf import DictConfig

from packnet_pl.configuration.components import Parts
from packnet_pl.configuration.instantiate import build_target
from packnet_pl.configuration.plan_text import data_of, size_of, steps_of, to_train
from packnet_pl.configuration.task_settings import TaskSettings
from packnet_pl.configuration.timing import BatchSeconds, Machine, batch_seconds, duration, reading_seconds
from packnet_pl.counting import counted

__all__ = ["time_lines"]


def time_lines(config: DictConfig, parts: Parts) -> Iterator[str]:
    """Yields a line per fit with its steps, images left out and estimated time; and the total time."""
    tasks = to_train(parts)
    machine = Machine(parts.device, parts.processes, config.trainer.num_nodes, config.optim.num_workers)
    known: dict[tuple[Any, ...], BatchSeconds | None] = {}
    total, tested = 0.0, 0.0
    for fitted in [tasks] if config.method.together else [[task] for task in tasks]:
        data, epoch = data_of(parts, fitted[-1]), steps_of(config, parts, fitted)
        classes = sum(len(data_of(parts, task).class_names) for task in fitted)
        kind = (tuple(data.input_shape), epoch.batch_size, classes)
        if kind not in known:
            known[kind] = _timed(config, parts, *kind)
        each, time = known[kind], "time not known"
        if each is not None:
            trains = machine.per_image(each.training, reading_seconds(data.train))
            evaluates = machine.per_image(each.evaluation, reading_seconds(data.val))
            # After each fit all tasks so far are tested, on both splits.
            tested += sum(evaluates * (_len(parts, task, "val") + _len(parts, task, "test")) for task in fitted)
            validated = sum(_len(parts, task, "val") for task in fitted)
            seconds = trains * epoch.batch_size * epoch.batches * parts.processes * _epochs(fitted[-1])
            # Each epoch is validated, and what pruning has left once more.
            seconds += evaluates * validated * (_epochs(fitted[-1]) + ("retrain" in fitted[-1].phases)) + tested
            total, time = total + seconds, duration(seconds)
        left_out = f", {epoch.left_out:,} of {counted(size_of(parts, fitted), 'image')} left out by the last batch"
        yield (
            f"training {' + '.join(task.name for task in fitted)}: {counted(epoch.steps, 'step')} of "
            f"{config.optim.batch_size:,} an epoch, {_images_text(data.input_shape)}"
            f"{left_out if epoch.left_out else ''}{_search_text(fitted[-1])}; {time}"
        )
    if known and None not in known.values():
        where = f"on {parts.device}" + (f" in {parts.processes} processes" if parts.processes > 1 else "")
        targets = [str(callback.get("_target_")) for callback in (config.get("callbacks") or {}).values()]
        stops = any(target.endswith((".EarlyStopping", ".Timer")) for target in targets)
        most = "at most " if stops or any(task.search for task in tasks) else ""
        yield f"time: {most}{duration(total)} {where}, from batches that were timed; with validation and testing"


def _images_text(input_shape: Sequence[int]) -> str:
    channels, height, width = input_shape
    return f"{'grey ' if channels == 1 else ''}images of {width} x {height}"


def _search_text(task: TaskSettings) -> str:
    if task.search is None:
        return ""
    return f", retrained at most {2 + task.search.trials} times: once for each ratio that is tried, and at last"


def _timed(
    config: DictConfig, parts: Parts, input_shape: tuple[int, ...], batch_size: int, num_classes: int
) -> BatchSeconds | None:
    make = build_target(config.optim.optimizer, "optim.optimizer")
    backbone, features = parts.model.backbone, parts.model.heads.num_features
    return batch_seconds(backbone, features, num_classes, make, input_shape, batch_size, parts.device)


def _len(parts: Parts, task: TaskSettings, split: str) -> int:
    return len(data_of(parts, task).splits[split])  # type: ignore[arg-type]


def _epochs(task: TaskSettings) -> int:
    trials = 1 + task.search.trials if task.search else 0
    return sum(phase.epochs for phase in task.phases.values()) + (
        trials * task.phases["retrain"].epochs if trials else 0
    )
