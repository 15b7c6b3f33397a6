"""The recipe in a packed file: the settings that a run takes from the file where its command line is silent.

It is what resuming reads from a run directory, without what belongs to a machine: folders, devices, loggers. A file may
come from anywhere: it chooses among the classes of a closed list, and nothing in it is imported or run otherwise.
"""

import json
import re
from collections.abc import Collection, Mapping
from importlib.resources import files
from typing import Any

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from packnet_pl.choices import SCORES
from packnet_pl.errors import UsageError
from packnet_pl.names import shown
from packnet_pl.old_settings import (
    DRAWN_DATA,
    PRUNING,
    RETRAINING,
    RULE,
    score_target,
    upgrade_settings,
    usual_rule,
)
from packnet_pl.text import as_line, brief, named

__all__ = ["recipe_of", "with_recipe"]

_SECTIONS = ("prune", "optim", "method", "debug")
_GROWTH = ("grow", "grow_below")
_TRAINER = ("precision", "sync_batchnorm")  # what decides bits; the rest is the machine's
_DISK, _WORKERS = ("path", "cache_dir", "cache_gb"), "num_workers"
_OPTIMIZERS = "ASGD Adadelta Adagrad Adam AdamW Adamax NAdam RAdam RMSprop Rprop SGD"
_DRAWN = ("packnet_pl.data.glyphs", "packnet_pl.data.digits", "packnet_pl.data.spectro")
_TARGETS = {
    "optim.optimizer": tuple(f"torch.optim.{name}" for name in _OPTIMIZERS.split()),
    "optim.scheduler": ("packnet_pl.training.warmup_cosine", "packnet_pl.training.step_decay"),
    "method.classifier": ("packnet_pl.training.TaskClassifier",),
    "method.fit": ("packnet_pl.training.fit_task",),
    "prune.rule": (RULE,),
    "prune.rule.score": tuple(map(score_target, SCORES)),
    "mask": ("packnet_pl.core.LearnedMask",),
    "sequence.task.data": ("packnet_pl.data.image_folder",),
}
_DEEPEST, _LONGEST, _MOST = 8, 200, 2000
_ABSENT = object()


def recipe_of(
    config: DictConfig, arch: str, inputs: Mapping[str, Any] | None, sequence_name: str | None = None
) -> dict[str, Any] | None:
    """Returns the recipe of a run as JSON; None if JSON cannot hold it (an infinite number) or readers refuse it.

    Args:
        config: Checked.
        arch: Name of the backbone, for the results.
        inputs: What the data of a task get where they leave it open (``fill_inputs``).
        sequence_name: Of the sequence that was chosen, if that has a name.
    """
    plain: Any = OmegaConf.to_container(config)
    sequence, method = plain["sequence"], plain["method"]
    template = sequence.get("task")
    found = {
        "arch": arch,
        "inputs": None if inputs is None else dict(inputs),
        "seed": plain["seed"],
        "prune": _unusual(plain["prune"]),
        "optim": {k: v for k, v in plain["optim"].items() if k != _WORKERS and RETRAINING.get(k) != v},
        # What the fit repeats of the pruning follows from that again.
        "method": {**method, "fit": {k: v for k, v in method["fit"].items() if k not in plain["prune"]}},
        "debug": plain["debug"],
        **({"mask": plain["mask"]} if plain.get("mask") else {}),
        "trainer": {key: plain["trainer"][key] for key in _TRAINER},
        "sequence": {
            "name": sequence_name,
            "task": None if not template else {**template, "data": _anywhere(template.get("data") or {})},
            # Data of other kinds lie in folders of this machine.
            "tasks": {
                name: {**task, "data": _anywhere(task["data"])}
                for name, task in sequence["tasks"].items()
                if name in sequence["order"] and _is_drawn(task)
            },
        },
    }
    if plain.get("grow") is not None:
        found |= {key: plain[key] for key in _GROWTH}
    try:
        json.dumps(found, allow_nan=False)
        _check_values(found)
    except (ValueError, TypeError):
        return None
    return found


def with_recipe(
    config: DictConfig, recipe: Mapping[str, Any], given: Collection[str], finished: Collection[str], path: object
) -> DictConfig:
    """Returns the configuration with the recipe's values wherever the command line sets none.

    Args:
        config: Composed, with its interpolations.
        recipe: From the file's header, not checked.
        given: The keys and groups on the command line; a group (``optim=adamw``) stands for all that is in it.
        finished: Names of the tasks in the file.
        path: Of the file, for messages.

    Raises:
        UsageError: If the recipe is not one, or names a class that a file may not choose.
    """  # noqa: DOC501
    changed = config.copy()
    OmegaConf.set_struct(changed, False)
    try:
        _check_values(recipe)
        recipe = upgrade_settings(recipe)
        recipe = {**recipe, "prune": _without_usual_rule(recipe["prune"])}
        _check_machine_settings(recipe)
        _check_targets(recipe, given, path)
        if "seed" not in given:
            changed.seed = recipe["seed"]
        for section in (section for section in _SECTIONS if section not in given):
            _write(changed[section], recipe[section])
        changed.mask = config.mask if "mask" in given else recipe.get("mask")
        for key in _TRAINER:
            changed.trainer[key] = recipe["trainer"][key]
        changed.update({key: recipe[key] for key in _GROWTH if key in recipe and key not in given})
        if "sequence" not in given:
            _write_tasks(changed.sequence, recipe["sequence"], given, finished)
        _put_all(changed, config, given)
    except (KeyError, TypeError, AttributeError, ValueError, OmegaConfBaseException) as error:
        if isinstance(error, UsageError):
            raise
        reason = as_line(error)
        raise UsageError(f"packed={path}: its recipe is damaged ({type(error).__name__}: {reason})") from error
    return changed


def _unusual(prune: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the pruning settings, without a rule that follows from them, and without the paper's score and schedule.

    So files of the paper's pruning are what they were before there was a choice.
    """
    return {key: value for key, value in _without_usual_rule(prune).items() if PRUNING.get(key) != value}


def _without_usual_rule(prune: Mapping[str, Any]) -> dict[str, Any]:
    usual = usual_rule(prune)
    return {key: value for key, value in prune.items() if key != "rule" or value != usual}


def _anywhere(data: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arguments of a data set that do not depend on the machine: no folders, no room on its disk.

    What the embedded ones had before there was a choice is left out.
    """
    if data.get("_target_") not in (*_TARGETS["sequence.task.data"], *_DRAWN):
        return {"_target_": data.get("_target_")}  # nobody knows which of its arguments are folders
    usual = DRAWN_DATA if data["_target_"] in _DRAWN else {}
    return {key: value for key, value in data.items() if key not in _DISK and (key not in usual or usual[key] != value)}


def _write(section: DictConfig, values: Mapping[str, Any]) -> None:
    """Writes the values into a section; interpolations in it stay."""
    for key, value in values.items():
        before = None if OmegaConf.is_missing(section, key) else section.get(key)
        derived = {}
        if isinstance(before, DictConfig):
            raw: Any = OmegaConf.to_container(before, resolve=False)
            derived = {name: raw[name] for name in raw if OmegaConf.is_interpolation(before, name)}
        section[key] = {**value, **derived} if isinstance(value, Mapping) else value


def _write_tasks(
    sequence: DictConfig, found: Mapping[str, Any], given: Collection[str], finished: Collection[str]
) -> None:
    if found["task"] is not None:
        sequence.task = {**found["task"], "data": {**found["task"]["data"], **dict.fromkeys(_DISK)}}
    for name, task in _shipped_tasks(found["name"]).items():
        sequence.tasks[name] = task
    for name in finished:
        # A task of the same name that is known here is another one.
        if name in sequence.tasks and not any(key.startswith(f"sequence.tasks.{name}.") for key in given):
            del sequence.tasks[name]
    for name, task in found["tasks"].items():
        sequence.tasks[name] = dict(task)


def _shipped_tasks(sequence: Any) -> dict[str, Any]:
    """Returns the tasks of a sequence of this package that need no folders; none if it has no such sequence."""
    shipped = files("packnet_pl.conf")
    if not isinstance(sequence, str) or not re.fullmatch(r"\w{1,100}", sequence):
        return {}
    if not (path := shipped / "sequence" / f"{sequence}.yaml").is_file():
        return {}
    plain: Any = OmegaConf.to_container(OmegaConf.create(path.read_text(encoding="utf-8")))
    data = {key: name for entry in plain.get("defaults", []) for key, name in entry.items()}
    tasks = {}
    for name, task in plain.get("tasks", {}).items():
        text = (shipped / "data" / f"{data.get(f'/data@tasks.{name}.data')}.yaml").read_text(encoding="utf-8")
        tasks[name] = {"data": OmegaConf.to_container(OmegaConf.create(text)), **task}
    return {name: task for name, task in tasks.items() if _is_drawn(task)}


def _is_drawn(task: Mapping[str, Any]) -> bool:
    return (task.get("data") or {}).get("_target_") in _DRAWN


def _put_all(changed: DictConfig, config: DictConfig, given: Collection[str]) -> None:
    for key in given:
        if "." in key and not key.startswith(("hydra.", "sequence.add")):
            _put(changed, key, OmegaConf.select(config, key, default=_ABSENT))


def _put(config: DictConfig, key: str, value: Any) -> None:
    if value is not _ABSENT:
        OmegaConf.update(config, key, value, merge=False, force_add=True)
        return
    parent, _, name = key.rpartition(".")
    node = OmegaConf.select(config, parent)
    if OmegaConf.is_dict(node):
        node.pop(name, None)


def _check_values(recipe: Mapping[str, Any]) -> None:
    """Refuses a recipe of too many values, and values that are interpolations.

    Raises:
        ValueError: If it has any. They are counted first: a configuration takes a millisecond for each value, and more.
    """
    level: list[tuple[str, Any]] = [("recipe", recipe)]
    total = 0
    for _ in range(_DEEPEST + 1):
        inside: list[tuple[str, Any]] = []
        for key, value in level:
            if isinstance(value, Mapping):
                inside += [(_checked_key(key, name), child) for name, child in value.items()]
            elif isinstance(value, list):
                inside += [(key, child) for child in value]
            elif isinstance(value, str) and ("${" in value or not _is_short(value)):
                raise ValueError(f"{named(key)} is {brief(value)}")
        total += len(inside)
        if total > _MOST:
            raise ValueError(f"it has more than {_MOST} values")
        if not (level := inside):
            return
    raise ValueError(f"{named(level[0][0])} is nested too deeply")


def _checked_key(key: str, name: str) -> str:
    if not _is_short(name) or (name.startswith("_") and name not in ("_target_", "_partial_")):
        raise ValueError(f"{named(key)} has {brief(name)}")
    return f"{key}.{name}"


def _is_short(text: str) -> bool:
    return len(text) <= _LONGEST and shown(text) == text


def _check_machine_settings(recipe: Mapping[str, Any]) -> None:
    """Refuses a recipe that sets what belongs to the reader's machine: folders and worker processes.

    Raises:
        ValueError: If it does.
    """
    sequence = recipe["sequence"]
    for task in [sequence["task"] or {}, *sequence["tasks"].values()]:
        for name in _DISK:
            if name in task.get("data", {}):
                raise ValueError(f"its data have {name}, which is the reader's to choose")
    if _WORKERS in recipe["optim"]:
        raise ValueError(f"optim has {_WORKERS}, which is the reader's to choose")


def _check_targets(recipe: Mapping[str, Any], given: Collection[str], path: object) -> None:
    allowed = {**_TARGETS, **{f"sequence.tasks.{name}.data": _DRAWN for name in recipe["sequence"]["tasks"]}}
    for key, target in _targets(recipe):
        if key.partition(".")[0] in given or f"{key}._target_" in given:
            continue
        if target not in allowed.get(key, ()):
            known = as_line(", ".join(allowed.get(key, ())) or "none")
            raise UsageError(
                f"packed={path}: its recipe has {named(key)}._target_={brief(target)}, and a file may choose only "
                f"{known}; if you trust it, say so: {named(key)}._target_={named(str(target))}"
            )


def _targets(node: Any, key: str = "") -> list[tuple[str, Any]]:
    if not isinstance(node, (Mapping, list)):
        return []
    children = node.items() if isinstance(node, Mapping) else enumerate(node)
    below = [found for name, child in children for found in _targets(child, f"{key}.{name}" if key else str(name))]
    return [*below, (key, node["_target_"])] if isinstance(node, Mapping) and "_target_" in node else below
