"""Checks a configuration before anything is built. Torch-free, for fast errors."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from packnet_pl.choices import (
    GRANULARITIES,
    KEEPINGS,
    PHASES,
    PRUNABLES,
    SCHEDULES,
    SCOPES,
    SCORES,
    WHICH_TASKS,
    check_choice,
    check_growth,
    nearest,
)
from packnet_pl.configuration.logger_check import check_loggers
from packnet_pl.configuration.schema import TrainConfig
from packnet_pl.configuration.task_settings import (
    AUTO,
    LOSS_OPTIONS,
    TaskSettings,
    check_loss_option,
    ratios_of,
    task_settings,
)
from packnet_pl.configuration.unused_settings import check_used
from packnet_pl.errors import UsageError
from packnet_pl.old_settings import score_target

__all__ = ["check_config", "check_values"]

OBJECTIVES = ("val_accuracy", "free")
_CHOICES = {
    "prune.scope": SCOPES,
    "prune.granularity": GRANULARITIES,
    "prune.score": SCORES,
    "prune.schedule": SCHEDULES,
    "norm": KEEPINGS,
    "bias": KEEPINGS,
    "prunable": PRUNABLES,
    "which_task": WHICH_TASKS,
    "changed_data": ("refuse", "accept"),
}
_LEAST = {
    "optim.batch_size": 1,
    "optim.accumulate": 1,
    "checkpoint.every_n_steps": 1,
    "optim.num_workers": 0,
    "trainer.num_nodes": 1,
    "seed": 0,
    "debug.max_epochs": 1,
    "prune.trials": 1,
}
_FACTORS = tuple(f"optim.{factor}.{phase}" for factor in ("epochs", "lr") for phase in PHASES)
_ABOVE_ZERO = ("optim.later_lr", "optim.gradient_clip", *_FACTORS)
_LOSS = tuple(f"optim.{option}" for option in LOSS_OPTIONS)


def check_config(config: DictConfig) -> tuple[TaskSettings, ...]:
    """Checks the configuration; returns its tasks, in order.

    Raises:
        OmegaConfBaseException: If a key is unknown (also one that was added with ``+``) or a value has the wrong type.
        UsageError: If a value is missing or out of range.
    """
    merged: Any = OmegaConf.merge(OmegaConf.structured(TrainConfig), config)
    missing = sorted(OmegaConf.missing_keys(merged))
    for name in merged.sequence.tasks if not OmegaConf.is_missing(merged.sequence, "tasks") else ():
        if f"sequence.tasks.{name}.data" in missing and f"sequence.tasks.{name}.train.epochs" in missing:
            known = [other for other in merged.sequence.tasks if other != name]
            raise UsageError(f"there is no task for sequence.tasks.{name}; {nearest(str(name), known)}")
    if missing:
        raise UsageError(f"{missing[0]} has no value: give it as {missing[0]}=...")
    check_values(merged)
    _check_packing(merged)
    check_used(merged)
    _check_growth(merged)
    _check_rule(merged)
    if "select" in merged.method.fit:
        _choice("method.fit.select", merged.method.fit.select, ("last", "best"))
    loggers: Any = OmegaConf.to_container(merged.logger or OmegaConf.create({}))
    check_loggers(loggers)
    if merged.method.together:
        _check_together(merged)
    tasks = task_settings(merged)
    if merged.method.together:
        _check_own_classes(merged)
    return tasks


def check_values(config: DictConfig) -> None:
    """Checks each value by itself; values that are missing are passed over.

    Args:
        config: Of the form of the schema.

    Raises:
        UsageError: If one is not allowed.
    """
    for key in (*_CHOICES, *_LEAST, *_ABOVE_ZERO, *_OTHERS, *_LOSS):
        *sections, name = key.split(".")
        node: Any = config
        for section in sections:
            # Asked for each section: OmegaConf's own select takes none that is missing as a whole.
            node = None if node is None or OmegaConf.is_missing(node, section) else node[section]
        if node is not None and not OmegaConf.is_missing(node, name):
            _check_value(key, node[name])


def _check_value(key: str, value: Any) -> None:
    if key in _CHOICES:
        _choice(key, value, _CHOICES[key])
    elif key in _OTHERS:
        _OTHERS[key](value)
    elif key in _LOSS:
        check_loss_option(key, value)
    elif value is None:
        return  # the schema says which of the numbers may be left out
    elif key in _LEAST and value < _LEAST[key]:
        raise UsageError(f"{key} is {value}; allowed is {_LEAST[key]} or more")
    elif key in _ABOVE_ZERO and not value > 0:
        raise UsageError(f"{key} is {value}; allowed is a number above 0")
    elif key in _FACTORS and value == math.inf:
        raise UsageError(f"{key} is {value}; allowed is a finite number above 0")


def _check_resume(given: Any) -> None:
    if not isinstance(given, bool) and given != "auto":
        raise UsageError(f"resume is {given!r}; allowed are true, false, and auto: go on if there is a run")


def _check_fraction(given: float) -> None:
    if not 0 < given <= 1:
        raise UsageError(f"debug.fraction is {given}; allowed is a number in (0, 1]")


def _check_grow(given: Any) -> None:
    if given is not None:
        try:
            check_growth(given)
        except ValueError as error:
            raise UsageError(str(error)) from error


def _check_grow_below(given: float) -> None:
    if not 0 <= given < 1:
        raise UsageError(f"grow_below is {given}; allowed is a fraction in [0, 1), the share of weights that is enough")


def _check_objective(given: Any) -> None:
    for aim in _aims(given):
        if aim not in OBJECTIVES:
            raise UsageError(
                f"sweep.objective is {given}; allowed is one of {', '.join(OBJECTIVES)}, or a list of them"
            )


def _check_share(given: float) -> None:
    if not 0 <= given <= 1:
        raise UsageError(f"optim.distillation is {given}; allowed is a share of the loss in [0, 1], 0 for none")


def _check_temperature(given: float) -> None:
    if not 0 < given < math.inf:
        raise UsageError(f"optim.temperature is {given}; allowed is a finite number above 0")


def _check_tolerance(given: float) -> None:
    if not 0 <= given < 100:
        raise UsageError(f"prune.tolerance is {given}; allowed are points of accuracy in [0, 100)")


_OTHERS: dict[str, Callable[[Any], object]] = {
    "prune.tolerance": _check_tolerance,
    "optim.distillation": _check_share,
    "optim.temperature": _check_temperature,
    "prune.ratio": ratios_of,
    "resume": _check_resume,
    "debug.fraction": _check_fraction,
    "sweep.objective": _check_objective,
    "grow": _check_grow,
    "grow_below": _check_grow_below,
}


def _check_growth(config: Any) -> None:
    """Refuses what cannot be done in a network that grows.

    Raises:
        UsageError: If it is asked for.
    """
    if config.grow is None:
        return
    if not config.method.pack:
        raise UsageError(f"grow is {config.grow}, but method={config.method.name} packs nothing; leave it out")
    if config.mask:
        raise UsageError(f"grow is {config.grow}, and mask=learned: masks fit one width only; leave one of them out")
    if config.prune.granularity == "filter":
        raise UsageError(
            f"grow is {config.grow}, and prune.granularity is filter: in a wider layer each filter of an earlier task "
            "has weights that are not that task's; leave one of them out"
        )


def _check_packing(config: Any) -> None:
    """Refuses what only a method that packs has a meaning for."""
    if config.method.pack:
        return
    method = f"method={config.method.name} packs nothing"
    for key, usual in (("norm", "shared"), ("bias", "shared"), ("prunable", "weights"), ("which_task", "entropy")):
        if config[key] != usual:
            raise UsageError(f"{key}={config[key]} was given, but {method}; leave it out")
    if config.mask:
        raise UsageError(f"mask was given, but {method}; leave it out")
    if config.packed:
        raise UsageError(f"packed was given, but {method}; leave one of them out")
    if config.prune.ratio == AUTO:
        raise UsageError(f"prune.ratio is auto, but {method}; leave it out")
    if config.optim.distillation and not config.method.classifier.get("retrain"):
        raise UsageError(
            f"optim.distillation is {config.optim.distillation}, but {method} and so has no phase retrain; leave it out"
        )
    if "free" in _aims(config.sweep.objective):
        raise UsageError(f"sweep.objective is {config.sweep.objective}, but {method}; leave free out")


def _check_rule(config: Any) -> None:
    """Refuses a score or schedule that was chosen by name where the rule says another, or that has no dense network."""
    prune: Any = OmegaConf.to_container(config.prune, resolve=True)
    rule = prune["rule"]
    score = rule.get("score")
    said = score.get("_target_") if isinstance(score, dict) else score
    if prune["score"] != "magnitude" and said != score_target(prune["score"]):
        raise UsageError(f"prune.score={prune['score']} was given, but prune.rule.score names {said}: give one of them")
    if prune["schedule"] != rule.get("schedule", "oneshot"):
        raise UsageError(
            f"prune.schedule is {prune['schedule']}, but prune.rule.schedule is {rule.get('schedule')}: give the first "
            "alone, and in a yaml of your own schedule: ${..schedule}"
        )
    if prune["ratio"] == AUTO and prune["schedule"] == "learned":
        raise UsageError(
            "prune.ratio is auto, and prune.schedule is learned: ratios are compared with the dense network, and there "
            "is none where training has a ratio from its first step on; give a number, or another schedule"
        )


def _aims(objective: Any) -> list[Any]:
    return list(objective) if OmegaConf.is_list(objective) and len(objective) else [objective]


def _check_together(config: Any) -> None:
    finished = list(config.sequence.finished)
    if finished and finished != list(config.sequence.order):
        raise UsageError(
            f"method={config.method.name} learns all tasks at once, and {finished} are finished: start a new run, with "
            "the tasks to add in sequence.order"
        )


def _check_own_classes(config: Any) -> None:
    """Refuses what would spread a label over the classes of other tasks, for the run or for any one task.

    Raises:
        UsageError: If something does.
    """
    tasks = config.sequence.tasks
    own = {f"sequence.tasks.{name}.{phase}": tasks[name][phase] for name in config.sequence.order for phase in PHASES}
    for section, settings in {"optim": config.optim, **own}.items():
        for option in ("label_smoothing", "mixup", "cutmix"):
            if settings[option]:
                raise UsageError(
                    f"{section}.{option} is {settings[option]}, but method={config.method.name} has images of several "
                    "tasks in a batch, each with classes of its own: leave it out"
                )


def _choice(key: str, given: object, allowed: Sequence[str]) -> None:
    try:
        check_choice(key, given, allowed)
    except ValueError as error:
        raise UsageError(str(error)) from error
