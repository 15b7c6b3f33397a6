"""Checks a configuration before anything is built. Torch-free, for fast errors."""

from collections.abc import Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from packnet_pl.choices import GRANULARITIES, KEEPINGS, SCOPES, check_choice
from packnet_pl.configuration.schema import TrainConfig
from packnet_pl.configuration.task_settings import TaskSettings, task_settings
from packnet_pl.errors import UsageError

__all__ = ["check_config"]

OBJECTIVES = ("val_accuracy", "free")


def check_config(config: DictConfig) -> tuple[TaskSettings, ...]:  # noqa: C901 - a list of checks
    """Checks the configuration; returns its tasks, in order.

    Raises:
        OmegaConfBaseException: If a key is unknown (also one that was added with ``+``) or a value has the wrong type.
        UsageError: If a value is missing or out of range.
    """
    merged: Any = OmegaConf.merge(OmegaConf.structured(TrainConfig), config)
    missing = sorted(OmegaConf.missing_keys(merged))
    if missing:
        raise UsageError(f"{missing[0]} has no value: give it as {missing[0]}=...")
    tasks = task_settings(merged)
    _choice("prune.scope", merged.prune.scope, SCOPES)
    _choice("prune.granularity", merged.prune.granularity, GRANULARITIES)
    for key, given in (("norm", merged.norm), ("bias", merged.bias)):
        _choice(key, given, KEEPINGS)
        if given == "per_task" and not merged.method.pack:
            raise UsageError(f"{key}=per_task was given, but method={merged.method.name} packs nothing; leave it out")
    if merged.packed and not merged.method.pack:
        raise UsageError(f"packed was given, but method={merged.method.name} packs nothing; leave one of them out")
    if merged.method.together:
        _check_together(merged)
    if not isinstance(merged.resume, bool) and merged.resume != "auto":
        raise UsageError(f"resume is {merged.resume!r}; allowed are true, false, and auto: go on if there is a run")
    _choice("changed_data", merged.changed_data, ("refuse", "accept"))
    _at_least("optim.batch_size", merged.optim.batch_size, 1)
    _at_least("optim.accumulate", merged.optim.accumulate, 1)
    _above_zero("optim.later_lr", merged.optim.later_lr)
    _at_least("checkpoint.every_n_steps", merged.checkpoint.every_n_steps, 1)
    aims = merged.sweep.objective
    for aim in aims if OmegaConf.is_list(aims) and len(aims) else [aims]:
        if aim not in OBJECTIVES:
            raise UsageError(f"sweep.objective is {aims}; allowed is one of {', '.join(OBJECTIVES)}, or a list of them")
        if aim == "free" and not merged.method.pack:
            raise UsageError(
                f"sweep.objective is {aims}, but method={merged.method.name} packs nothing; leave free out"
            )
    _at_least("optim.num_workers", merged.optim.num_workers, 0)
    _at_least("trainer.num_nodes", merged.trainer.num_nodes, 1)
    _at_least("seed", merged.seed, 0)
    _above_zero("optim.gradient_clip", merged.optim.gradient_clip)
    if not 0 < merged.debug.fraction <= 1:
        raise UsageError(f"debug.fraction is {merged.debug.fraction}; allowed is a number in (0, 1]")
    _at_least("debug.max_epochs", merged.debug.max_epochs, 1)
    return tasks


def _check_together(config: Any) -> None:
    finished = list(config.sequence.finished)
    if finished and finished != list(config.sequence.order):
        raise UsageError(
            f"method={config.method.name} learns all tasks at once, and {finished} are finished: start a new run, with "
            "the tasks to add in sequence.order"
        )


def _choice(key: str, given: object, allowed: Sequence[str]) -> None:
    try:
        check_choice(key, given, allowed)
    except ValueError as error:
        raise UsageError(str(error)) from error


def _at_least(key: str, value: int | None, least: int) -> None:
    if value is not None and value < least:
        raise UsageError(f"{key} is {value}; allowed is {least} or more")


def _above_zero(key: str, value: float | None) -> None:
    if value is not None and not value > 0:
        raise UsageError(f"{key} is {value}; allowed is a number above 0")
