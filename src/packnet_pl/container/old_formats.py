"""Upgrades headers of earlier formats to the present one."""

from collections.abc import Mapping
from typing import Any

from packnet_pl.names import mended_class_names
from packnet_pl.preparation import cut_out_of
from packnet_pl.text import brief

__all__ = ["OLDEST", "upgrade"]

OLDEST = 1

_KEYS_1 = {"format", "backbone", "tasks", "packnet", "weights", "aliases", "history", "checksums"}
_TASK_KEYS_1 = {"name", "num_classes", "class_names", "input_shape", "mean", "std", "resize", "ratio", "accuracy"}

# What older files say of the keys that later formats added: that nobody knows.
_NEW_IN_2: dict[str, Any] = {"recipe": None}
_NEW_IN_3: dict[str, Any] = {"parameters": None}


def upgrade(header: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a header of an earlier format in format 3; the tensors, and the state of PackNet in it, are the same.

    Args:
        header: Parsed, its values not checked.

    Raises:
        ValueError: If it has not the keys of its format.
    """
    if header["format"] == 1:
        header = _from_1(header)
    return {**header, **_NEW_IN_3, "format": 3}


def _from_1(header: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a header of format 1 in format 2.

    Args:
        header: Parsed, its values not checked; other keys than those of format 1 were never read, and are left out.

    Raises:
        ValueError: If it has not the keys of format 1.
    """
    missing = sorted(_KEYS_1 - set(header))
    if missing:
        raise ValueError(f"its header has no {missing}")
    if not isinstance(header["tasks"], list):
        raise ValueError(f"tasks in its header is a {type(header['tasks']).__name__}")
    tasks = [_upgrade_task(task) for task in header["tasks"]]
    return {**{key: header[key] for key in _KEYS_1}, **_NEW_IN_2, "format": 2, "tasks": tasks}


def _upgrade_task(task: Any) -> dict[str, Any]:
    if not isinstance(task, Mapping):
        raise ValueError(f"a task in its header is a {type(task).__name__}")
    if set(task) != _TASK_KEYS_1:
        missing, unknown = sorted(_TASK_KEYS_1 - set(task)), sorted(set(task) - _TASK_KEYS_1)
        raise ValueError(f"a task in its header has no {missing}" if missing else f"a task has {brief(unknown)}")
    names = task["class_names"]
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        # Two classes could have one name, and any.
        names = list(mended_class_names(names))
    kept = {key: value for key, value in task.items() if key != "resize"}
    return {**kept, "class_names": names, "preparation": _preparation(task["input_shape"], task["resize"])}


def _preparation(shape: Any, resize: Any) -> dict[str, Any] | None:
    """Returns the preparation: format 1 had the shorter side, and nothing about boxes."""
    if resize is not None and type(resize) is not int:
        raise ValueError(f"resize of a task in its header is {brief(resize)}; allowed is null, or a number of pixels")
    if not isinstance(shape, list) or any(type(side) is not int for side in shape):
        return None  # refused with the rest of the task
    found = cut_out_of(shape, resize)
    return None if found is None else found.dump()
