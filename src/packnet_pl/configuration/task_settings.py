"""Parses and checks how each task is trained and pruned, once, into plain values. Torch-free."""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from omegaconf import DictConfig, OmegaConf

from packnet_pl.choices import (
    BALANCES,
    HEAD_STARTS,
    Balance,
    HeadStart,
    Phase,
    check_choice,
    check_ratio,
    check_task_name,
    nearest,
)
from packnet_pl.configuration.overrides import escaped
from packnet_pl.counting import counted
from packnet_pl.errors import UsageError
from packnet_pl.ratio_choice import RatioSearch, least_ratio

__all__ = [
    "AUTO",
    "LOSS_OPTIONS",
    "PhaseSettings",
    "TaskSettings",
    "check_loss_option",
    "lower_rate",
    "prune_ratios",
    "ratios_of",
    "task_settings",
]


LOSS_OPTIONS = ("label_smoothing", "mixup", "cutmix", "balance")
"""Options of ``optim`` that a task's phase may have of its own."""

AUTO = "auto"
"""In place of a prune ratio: it is searched."""

_LEAST_ALPHA = 1e-30
"""Lower ones are zero, or nearly, in the float32 of torch's distributions, which take no zero."""


@dataclass(frozen=True)
class PhaseSettings:
    """Settings of one phase of one task.

    Attributes:
        epochs: 0 trains nothing.
        lr: Learning rate.
        schedule: Whether the rate follows ``optim.scheduler``.
        label_smoothing: Share of each label that is spread over all classes, in [0, 1).
        mixup: Alpha of mixup, 0 for none.
        cutmix: Alpha of cutmix, 0 for none.
        balance: How classes with few images come to count as much as others.
    """

    epochs: int
    lr: float
    schedule: bool
    label_smoothing: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    balance: Balance = "none"


@dataclass(frozen=True)
class TaskSettings:
    """Settings of one task.

    Attributes:
        name: Of the task.
        finished: Whether it is finished already, so that nothing else here says anything of it but ``prune_ratio``.
        prune_ratio: Share of the task's weights to release, in [0, 1); None releases nothing.
        phases: "train", and "retrain" if something is released.
        head: What its head begins as.
        search: How the prune ratio is searched, which is the least one then; None takes it as it is.
    """

    name: str
    finished: bool
    prune_ratio: float | None
    phases: Mapping[Phase, PhaseSettings]
    head: HeadStart = "new"
    search: RatioSearch | None = None


def task_settings(config: DictConfig) -> tuple[TaskSettings, ...]:
    """Returns the tasks of a configuration, in order.

    Args:
        config: Of the form of the schema, with ``sequence.order`` and ``sequence.tasks`` written out.

    Raises:
        UsageError: If a value is out of range, or a task is unknown.
    """
    order, finished = list(config.sequence.order), list(config.sequence.finished)
    if not order:
        raise UsageError("sequence.order is empty; name at least one task")
    if len(set(order)) != len(order):
        raise UsageError(f"sequence.order is {order}; each task can stand in it once")
    for name in order:
        if name not in finished:
            _check_task(config, name)
    ratios = prune_ratios(config.prune, len(order), finished=len(finished))
    pruned = [ratio if config.method.pack else None for ratio in ratios]
    return tuple(
        TaskSettings(name, True, ratio, {})
        if name in finished
        else TaskSettings(
            name,
            False,
            ratio,
            _phases(config, name, ratio),
            config.sequence.tasks[name].head,
            _search(config.prune, ratio),
        )
        for name, ratio in zip(order, pruned, strict=True)
    )


def prune_ratios(prune: Mapping[str, Any], num_tasks: int, *, finished: int = 0) -> list[float | None]:
    """Returns one prune ratio per task; None for the last task if it is not to be pruned.

    Args:
        prune: Part of a configuration: ``ratio``, a number for all tasks, a list with one per task, or "auto", which is
            the least ratio that leaves each later task its share; and ``last``, whether the last task is pruned too.
        num_tasks: Number of tasks.
        finished: Number of tasks that are finished already; a list may leave them out, and then they get None.

    Raises:
        UsageError: If a ratio is not a number in [0, 1), or the list has another length.
    """
    given = _plain(prune["ratio"])
    checked = ratios_of(given)
    ratios = checked if isinstance(given, list) else checked * num_tasks
    if given == AUTO:
        ratios = [least_ratio(later + bool(prune["last"])) for later in reversed(range(num_tasks))]
    left_out = finished if finished and len(ratios) == num_tasks - finished else 0
    if len(ratios) + left_out != num_tasks:
        raise UsageError(
            f"prune.ratio is {given}: {counted(len(ratios), 'number')} for {counted(num_tasks, 'task')}; "
            "give one number for all tasks, or one per task"
        )
    chosen: list[float | None] = [*[None] * left_out, *ratios]
    return chosen if prune["last"] else [*chosen[:-1], None]


def ratios_of(given: Any) -> list[float]:
    """Returns the numbers of ``prune.ratio``, which is one or a list of them; none for "auto".

    Raises:
        UsageError: If one is not a number in [0, 1).
    """
    given = _plain(given)
    if given == AUTO:
        return []
    allowed = f"prune.ratio is {given}; allowed is a fraction in [0, 1), a list of them, or auto"
    try:
        return [check_ratio(ratio, allowed) for ratio in (given if isinstance(given, list) else [given])]
    except ValueError as error:
        raise UsageError(str(error)) from error


def check_loss_option(key: str, value: Any) -> None:
    """Checks one of :data:`LOSS_OPTIONS`.

    Args:
        key: Its whole key, which ends in its name.
        value: Of the type that the schema has for it.

    Raises:
        UsageError: If it is out of range.
    """
    name = key.rpartition(".")[2]
    if name == "balance":
        try:
            check_choice(key, value, BALANCES)
        except ValueError as error:
            raise UsageError(str(error)) from error
    elif name == "label_smoothing" and not 0 <= value < 1:
        raise UsageError(
            f"{key} is {value}; allowed is a fraction in [0, 1), the share that is spread over all classes"
        )
    elif name != "label_smoothing" and value and not _LEAST_ALPHA <= value < math.inf:
        raise UsageError(f"{key} is {value}; allowed is alpha, a finite number above 0, or 0 for none")


def lower_rate(config: DictConfig, task: str, phase: Phase) -> str:
    """Returns the override that gives a phase a tenth of its learning rate.

    Args:
        config: Checked.
        task: Whose phase; with tasks that are learned at once any of them.
        phase: Which.
    """
    task = _deciding(config, task, phase)
    rate = f"{config.sequence.tasks[task][phase].lr / 10:g}"
    if re.fullmatch(r"[A-Za-z_][\w-]*", task, re.ASCII):
        return f"sequence.tasks.{task}.{phase}.lr={rate}"
    # Other names are no keys on Hydra's command line, but keys of a mapping.
    return f"sequence.tasks={{{escaped(task)}: {{{phase}: {{lr: {rate}}}}}}}"


def _plain(value: Any) -> Any:
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def _check_task(config: DictConfig, name: str) -> None:
    if name not in config.sequence.tasks:
        raise UsageError(f"sequence.order names {name!r}; {nearest(name, config.sequence.tasks)}")
    task = config.sequence.tasks[name]
    try:
        check_task_name(name)
    except ValueError as error:
        raise UsageError(f"sequence.order: {error}") from error
    try:
        check_choice(f"sequence.tasks.{name}.head", task.head, HEAD_STARTS)
    except ValueError as error:
        raise UsageError(str(error)) from error
    for phase, least in (("train", 0), ("retrain", 1)):
        settings, key = task[phase], f"sequence.tasks.{name}.{phase}"
        if settings.epochs < least:
            raise UsageError(f"{key}.epochs is {settings.epochs}; allowed is {least} or more")
        if not settings.lr > 0:
            raise UsageError(f"{key}.lr is {settings.lr}; allowed is a number above 0")
        for option in LOSS_OPTIONS:
            if settings[option] is not None:
                check_loss_option(f"{key}.{option}", settings[option])


def _deciding(config: DictConfig, task: str, phase: Phase) -> str:
    """Returns the task whose settings count: of tasks learned at once, the one with the most epochs."""
    if not config.method.together:
        return task
    names: list[str] = list(config.sequence.order)
    return max(names, key=lambda name: config.sequence.tasks[name][phase].epochs)


def _search(prune: DictConfig, ratio: float | None) -> RatioSearch | None:
    return RatioSearch(ratio, prune.tolerance, prune.trials) if prune.ratio == AUTO and ratio is not None else None


def _phases(config: DictConfig, name: str, ratio: float | None) -> dict[Phase, PhaseSettings]:
    # Where nothing is pruned, nothing is retrained; only individual networks may have a second phase all the same.
    retrains = ratio is not None or config.method.classifier.get("retrain")
    names: Sequence[Phase] = ("train", "retrain") if retrains else ("train",)
    found: dict[Phase, PhaseSettings] = {}
    for phase in names:
        settings = config.sequence.tasks[_deciding(config, name, phase)][phase]
        epochs = settings.epochs and max(1, round(settings.epochs * config.optim.epochs[phase]))
        epochs = min(epochs, config.debug.max_epochs or epochs)
        own = {option: settings[option] for option in LOSS_OPTIONS if settings[option] is not None}
        usual = {option: config.optim[option] for option in LOSS_OPTIONS}
        rate = settings.lr * config.optim.lr[phase]
        found[phase] = PhaseSettings(epochs, rate, settings.schedule, **{**usual, **own})
    return found
