"""Checks a configuration before anything is built. Torch-free, for fast errors."""

from typing import Any

from omegaconf import DictConfig, OmegaConf

from packnet_pl.choices import PHASES, nearest
from packnet_pl.configuration.logger_check import check_loggers
from packnet_pl.configuration.schema import TrainConfig
from packnet_pl.configuration.task_settings import AUTO, TaskSettings, task_settings
from packnet_pl.configuration.unused_settings import check_used
from packnet_pl.configuration.value_checks import aims_of, check_values, refuse_other
from packnet_pl.errors import UsageError
from packnet_pl.old_settings import score_target

__all__ = ["check_config"]


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
        refuse_other("method.fit.select", merged.method.fit.select, ("last", "best"))
    loggers: Any = OmegaConf.to_container(merged.logger or OmegaConf.create({}))
    check_loggers(loggers)
    if merged.method.together:
        _check_together(merged)
    tasks = task_settings(merged)
    if merged.method.together:
        _check_own_classes(merged)
    return tasks


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
    if "free" in aims_of(config.sweep.objective):
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
