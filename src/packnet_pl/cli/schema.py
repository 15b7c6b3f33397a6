"""What a configuration may hold, and the check of one. No torch here: a bad option fails at once."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass, field
from numbers import Real
from typing import Any

from omegaconf import MISSING, DictConfig, OmegaConf

__all__ = ["TrainConfig", "UsageError", "add_tasks", "check_config", "expand_tasks", "nearest", "prune_ratios"]


OBJECTIVES = ("val_accuracy", "free")


class UsageError(ValueError):
    """The user can mend it: answered by one line and exit code 2."""


@dataclass
class PhaseConfig:
    """One phase of one task."""

    epochs: int = MISSING
    lr: float = MISSING
    schedule: bool = True


@dataclass
class TaskConfig:
    """One task."""

    data: dict[str, Any] = MISSING
    head: str = "new"
    train: PhaseConfig = MISSING
    retrain: PhaseConfig = MISSING


@dataclass
class SequenceConfig:
    """The tasks, and their order."""

    order: list[str] = MISSING
    tasks: dict[str, TaskConfig] = MISSING
    root: str | None = None
    add: Any = None
    finished: list[str] = field(default_factory=list)


@dataclass
class PruneConfig:
    """How much each task gives up; ``ratio`` is a number or a list."""

    ratio: Any = MISSING
    last: bool = MISSING
    scope: str = MISSING
    granularity: str = MISSING


@dataclass
class MethodConfig:
    """Which method trains a task."""

    name: str = MISSING
    pack: bool = MISSING
    together: bool = MISSING
    classifier: dict[str, Any] = MISSING
    fit: dict[str, Any] = MISSING


@dataclass
class OptimConfig:
    """How every phase is optimized; rates and epochs are the phases' own."""

    optimizer: dict[str, Any] = MISSING
    scheduler: dict[str, Any] | None = None
    later_lr: float = 1.0
    batch_size: int = MISSING
    accumulate: int = MISSING
    gradient_clip: float | None = None
    num_workers: int = MISSING


@dataclass
class TrainerConfig:
    """Where it runs."""

    accelerator: str = MISSING
    devices: Any = MISSING
    num_nodes: int = MISSING
    strategy: str = MISSING
    precision: str = MISSING
    sync_batchnorm: bool = MISSING


@dataclass
class DebugConfig:
    """Trials."""

    fraction: float = MISSING
    max_epochs: int | None = None


@dataclass
class CheckpointConfig:
    """How often the state is saved."""

    every_n_steps: int | None = None
    shared: str | None = None


@dataclass
class SweepConfig:
    """What the jobs of a sweep have in common."""

    objective: Any = MISSING
    share: bool = MISSING


@dataclass
class TrainConfig:
    """The whole configuration of ``packnet-train``."""

    sequence: SequenceConfig = MISSING
    arch: dict[str, Any] = MISSING
    prune: PruneConfig = MISSING
    method: MethodConfig = MISSING
    optim: OptimConfig = MISSING
    trainer: TrainerConfig = MISSING
    logger: dict[str, Any] | None = None
    debug: DebugConfig = MISSING
    checkpoint: CheckpointConfig = MISSING
    sweep: SweepConfig = MISSING
    packed: str | None = None
    resume: Any = False
    norm: str = MISSING
    bias: str = MISSING
    seed: int = MISSING


def expand_tasks(config: DictConfig) -> DictConfig:
    """Returns the configuration with ``sequence.folders`` and ``sequence.add`` written out in ``order`` and ``tasks``.

    Raises:
        UsageError: If one of them is not of the form that it should have.
    """
    sequence = config.get("sequence")
    if not OmegaConf.is_dict(sequence):
        return config
    expanded = config.copy()
    OmegaConf.set_struct(expanded, False)
    # As lists: a key whose value is missing is not "in" a configuration.
    if "root" in list(sequence) and OmegaConf.is_missing(sequence, "root"):
        raise UsageError("sequence.root has no value: give it as sequence.root=/data, the folder of all data sets")
    template = expanded.sequence.pop("task") if "task" in list(sequence) else None
    if "folders" in list(sequence):
        _expand_folders(expanded.sequence, template)
    add = expanded.sequence.get("add")
    if not (add is None or OmegaConf.is_list(add) or OmegaConf.is_dict(add)):
        raise UsageError(f"sequence.add is {add}; give names, 'sequence.add=[new]', or folders, {_EXAMPLE % 'add'}")
    for name in [str(name) for name in add or []]:
        path = add[name] if OmegaConf.is_dict(add) else None
        if path is not None:
            expanded.sequence.tasks[name] = _of_folder(template, path, expanded.sequence.tasks.get(name, {}))
        elif name not in expanded.sequence.tasks:
            known = nearest(name, expanded.sequence.tasks)
            raise UsageError(f"sequence.add names {name!r}; {known} A folder of your own: {_EXAMPLE % 'add'}")
    return expanded


def add_tasks(config: DictConfig, finished: list[str]) -> DictConfig:
    """Returns the configuration with the tasks of ``sequence.add`` at the end of ``sequence.order``.

    Args:
        config: From :func:`expand_tasks`.
        finished: Names of the tasks that are finished already.

    Raises:
        UsageError: If a task to add is there already.
    """
    if not OmegaConf.is_dict(config.get("sequence")) or OmegaConf.is_missing(config.sequence, "order"):
        return config
    changed = config.copy()
    OmegaConf.set_struct(changed, False)
    order = list(config.sequence.order)
    for name in [str(name) for name in config.sequence.get("add") or []]:
        # A resumed run has its added tasks among the finished ones in time.
        if name in order and not config.get("resume"):
            raise UsageError(f"sequence.add names {name!r}, which is there already: {order}; choose a new name")
        if name not in order:
            order.append(name)
    changed.sequence.order, changed.sequence.finished = order, finished
    return changed


_EXAMPLE = "'sequence.%s={cats: /data/cats, cars: /data/cars}', quoted"


def _expand_folders(sequence: DictConfig, template: Any) -> None:
    example = _EXAMPLE % "folders"
    if OmegaConf.is_missing(sequence, "folders"):
        raise UsageError(f"sequence.folders has no value: give it as {example}")
    folders = sequence.pop("folders")
    if not OmegaConf.is_dict(folders) or not folders:
        raise UsageError(f"sequence.folders is {folders}; give a name and a folder for each task: {example}")
    for name, path in folders.items():
        if not isinstance(path, str):
            raise UsageError(f"sequence.folders.{name} is {path}; give the path of a folder")
    known = [*map(str, folders), *map(str, sequence.get("add") or [])]
    for name in sequence.tasks:
        if str(name) not in known:
            raise UsageError(f"there is no task for sequence.tasks.{name}; {nearest(str(name), known)}")
    sequence.order = sequence.order if sequence.order is not None else [str(name) for name in folders]
    for name, path in folders.items():
        sequence.tasks[str(name)] = _of_folder(template, path, sequence.tasks.get(name, {}))


def _of_folder(template: Any, path: str, own: Any) -> Any:
    return OmegaConf.merge(template, {"data": {"path": str(path)}}, own)


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
            f"prune.ratio is {given}: {len(ratios)} numbers for {num_tasks} tasks; "
            "give one number for all tasks, or one per task"
        )
    for ratio in ratios:
        if isinstance(ratio, bool) or not isinstance(ratio, Real) or not 0 <= float(ratio) < 1:
            is_percent = isinstance(ratio, (int, float)) and not isinstance(ratio, bool) and 1 < ratio < 100
            hint = f" (for {ratio:g} percent write {ratio / 100:g})" if is_percent else ""
            raise UsageError(f"prune.ratio is {given}; allowed is a fraction in [0, 1) or a list of them{hint}")
    chosen: list[float | None] = [*[None] * left_out, *(float(ratio) for ratio in ratios)]
    return chosen if last else [*chosen[:-1], None]


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns words that name the known names closest to ``name``, or all of them if none is close."""
    names = sorted(map(str, known))
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"there are {', '.join(names)}" if len(names) <= 12 else "packnet-train --cfg job shows all there are"


def _one_of(key: str, given: str, first: str, second: str) -> None:
    if given not in (first, second):
        raise UsageError(f"{key} is {given!r}; allowed are {first!r} and {second!r}")


def _at_least(key: str, value: int | None, least: int) -> None:
    if value is not None and value < least:
        raise UsageError(f"{key} is {value}; allowed is {least} or more")


def _above_zero(key: str, value: float | None) -> None:
    if value is not None and not value > 0:
        raise UsageError(f"{key} is {value}; allowed is a number above 0")
