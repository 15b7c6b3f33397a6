"""Whether a configuration can be run. No torch here: a bad option fails at once."""

from numbers import Real
from typing import Any

from omegaconf import DictConfig, OmegaConf

from packnet_pl.configuration.schema import TrainConfig
from packnet_pl.counting import counted
from packnet_pl.errors import UsageError, nearest

__all__ = ["check_config", "prune_ratios"]

OBJECTIVES = ("val_accuracy", "free")


def check_config(config: DictConfig) -> None:
    """Does nothing for a configuration that can be run.

    Raises:
        OmegaConfBaseException: If a key is unknown (also one that was added with ``+``) or a value has the wrong type.
        UsageError: If a value is missing or out of range.
    """
    merged = OmegaConf.merge(OmegaConf.structured(TrainConfig), config)
    missing = sorted(OmegaConf.missing_keys(merged))
    if missing:
        raise UsageError(f"{missing[0]} has no value: give it as {missing[0]}=...")
    order, tasks = list(merged.sequence.order), merged.sequence.tasks
    finished = list(merged.sequence.finished)
    if not order:
        raise UsageError("sequence.order is empty; name at least one task")
    if len(set(order)) != len(order):
        raise UsageError(f"sequence.order is {order}; each task can stand in it once")
    for name in order:
        if name in finished:
            continue
        if name not in tasks:
            raise UsageError(f"sequence.order names {name!r}; {nearest(name, tasks)}")
        _one_of(f"sequence.tasks.{name}.head", tasks[name].head, "new", "pretrained")
        for phase, least in (("train", 0), ("retrain", 1)):
            _at_least(f"sequence.tasks.{name}.{phase}.epochs", tasks[name][phase].epochs, least)
            _above_zero(f"sequence.tasks.{name}.{phase}.lr", tasks[name][phase].lr)
    prune_ratios(merged.prune.ratio, len(order), last=merged.prune.last, finished=len(finished))
    _one_of("prune.scope", merged.prune.scope, "layer", "global")
    _one_of("prune.granularity", merged.prune.granularity, "weight", "filter")
    for key, given in (("norm", merged.norm), ("bias", merged.bias)):
        _one_of(key, given, "shared", "per_task")
        if given == "per_task" and not merged.method.pack:
            raise UsageError(f"{key}=per_task was given, but method={merged.method.name} packs nothing; leave it out")
    if merged.packed and not merged.method.pack:
        raise UsageError(f"packed was given, but method={merged.method.name} packs nothing; leave one of them out")
    if merged.method.together:
        _check_together(merged, order, finished)
    if not isinstance(merged.resume, bool) and merged.resume != "auto":
        raise UsageError(f"resume is {merged.resume!r}; allowed are true, false, and auto: go on if there is a run")
    _one_of("changed_data", merged.changed_data, "refuse", "accept")
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


def _check_together(config: Any, order: list[str], finished: list[str]) -> None:
    if finished and finished != order:
        raise UsageError(
            f"method={config.method.name} learns all tasks at once, and {finished} are finished: start a new run, with "
            "the tasks to add in sequence.order"
        )


def prune_ratios(given: Any, num_tasks: int, *, last: bool, finished: int = 0) -> list[float | None]:
    """Returns one prune ratio per task; None for the last task if it is not to be pruned.

    Args:
        given: ``prune.ratio``: a number for all tasks, or a list with one per task.
        num_tasks: Number of tasks.
        last: ``prune.last``: whether the last task is pruned too.
        finished: Number of tasks that are finished already; a list may leave them out, and then they get None.

    Raises:
        UsageError: If a ratio is not a number in [0, 1), or the list has another length.
    """
    given = OmegaConf.to_container(given) if OmegaConf.is_config(given) else given
    ratios = given if isinstance(given, list) else [given] * num_tasks
    left_out = finished if finished and len(ratios) == num_tasks - finished else 0
    if len(ratios) + left_out != num_tasks:
        raise UsageError(
            f"prune.ratio is {given}: {counted(len(ratios), 'number')} for {counted(num_tasks, 'task')}; "
            "give one number for all tasks, or one per task"
        )
    for ratio in ratios:
        if isinstance(ratio, bool) or not isinstance(ratio, Real) or not 0 <= float(ratio) < 1:
            is_percent = isinstance(ratio, (int, float)) and not isinstance(ratio, bool) and 1 < ratio < 100
            hint = f" (for {ratio:g} percent write {ratio / 100:g})" if is_percent else ""
            raise UsageError(f"prune.ratio is {given}; allowed is a fraction in [0, 1) or a list of them{hint}")
    chosen: list[float | None] = [*[None] * left_out, *(float(ratio) for ratio in ratios)]
    return chosen if last else [*chosen[:-1], None]


def _one_of(key: str, given: str, first: str, second: str) -> None:
    if given not in (first, second):
        raise UsageError(f"{key} is {given!r}; allowed are {first!r} and {second!r}")


def _at_least(key: str, value: int | None, least: int) -> None:
    if value is not None and value < least:
        raise UsageError(f"{key} is {value}; allowed is {least} or more")


def _above_zero(key: str, value: float | None) -> None:
    if value is not None and not value > 0:
        raise UsageError(f"{key} is {value}; allowed is a number above 0")
