"""Checks the entry of one task in the header of a packed file."""

import math
from typing import Any, NoReturn

from packnet_pl.choices import check_task_name
from packnet_pl.counting import counted
from packnet_pl.names import check_class_names
from packnet_pl.preparation import Preparation
from packnet_pl.text import brief

__all__ = ["check_task", "is_count", "is_number"]

# Of format 2. A new key also goes into old_formats.py, with what older files say of it, and into docs/format.md.
_KEYS = {"name", "num_classes", "class_names", "input_shape", "mean", "std", "preparation", "ratio", "accuracy"}
_MOST_CLASSES = 1 << 20
_MOST_PIXELS = 1 << 13


def check_task(task: Any) -> None:  # noqa: C901 - a list of checks
    """Checks all values of an entry of ``tasks``.

    Raises:
        ValueError: Otherwise.
    """
    if not isinstance(task, dict):
        _refuse(f"a task in its header is a {type(task).__name__}")
    if task.keys() != _KEYS:
        missing, unknown = sorted(_KEYS - task.keys()), sorted(task.keys() - _KEYS)
        _refuse(f"a task in its header has no {missing}" if missing else f"a task in its header has {brief(unknown)}")
    check_task_name(task["name"])
    where = f"task {brief(task['name'])}"
    if not is_count(task["num_classes"], 2, _MOST_CLASSES):
        _refuse(f"{where} has {brief(task['num_classes'])} classes; allowed is 2 to {_MOST_CLASSES}")
    names = task["class_names"]
    if not isinstance(names, list) or len(names) not in (0, task["num_classes"]):
        _refuse(f"{where} has {task['num_classes']} classes and the class names {brief(names)}")
    check_class_names(names)
    shape = task["input_shape"]
    if not isinstance(shape, list) or len(shape) not in (0, 3) or not all(is_count(n, 1, _MOST_PIXELS) for n in shape):
        _refuse(f"{where} takes images of shape {brief(shape)}; allowed are 3 numbers up to {_MOST_PIXELS}, or none")
    for key in ("mean", "std"):
        numbers = task[key]
        if not isinstance(numbers, list) or not all(is_number(n, -math.inf, math.inf) for n in numbers):
            _refuse(f"{where}: {key} is {brief(numbers)}; allowed is a list of finite numbers")
        if len(numbers) not in ((0, shape[0]) if shape else range(_MOST_PIXELS)):
            _refuse(f"{where}: {key} has {counted(len(numbers), 'number')} for {shape[0] if shape else 'no'} channels")
    if any(number <= 0 for number in task["std"]):
        _refuse(f"{where}: std is {brief(task['std'])}; allowed are numbers above 0")
    _check_preparation(where, task["preparation"], shape)
    if task["ratio"] is not None and not (is_number(task["ratio"], 0, 1) and task["ratio"] < 1):
        _refuse(f"{where}: ratio is {brief(task['ratio'])}; allowed is null, or a fraction in [0, 1)")
    if task["accuracy"] is not None and not is_number(task["accuracy"], 0, 1):
        _refuse(f"{where}: accuracy is {brief(task['accuracy'])}; allowed is null, or 0 to 1")


def _check_preparation(where: str, preparation: Any, shape: list[int]) -> None:
    if preparation is None:
        return
    if not isinstance(preparation, dict):
        _refuse(f"{where}: its preparation of images is a {type(preparation).__name__}")
    try:
        found = Preparation.parse(preparation)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    if list(found.input_shape) != shape:
        _refuse(f"{where} takes images of shape {shape}, and their preparation gives {list(found.input_shape)}")
    if found.shorter_side is not None and found.shorter_side > _MOST_PIXELS:
        _refuse(f"{where}: the shorter side is {brief(found.shorter_side)}; allowed is up to {_MOST_PIXELS}")


def is_count(value: Any, least: int, most: int) -> bool:
    """Returns whether ``value`` is an int from ``least`` to ``most``, and no bool or float."""
    return type(value) is int and least <= value <= most


def is_number(value: Any, least: float, most: float) -> bool:
    """Returns whether ``value`` is a finite number from ``least`` to ``most``, and no bool."""
    # Compared first: integers may be too large for a float.
    return type(value) in (int, float) and least <= value <= most and -1e300 < value < 1e300


def _refuse(reason: str) -> NoReturn:
    raise ValueError(reason)
