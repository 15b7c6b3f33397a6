"""The JSON header of a packed file, taken apart with suspicion: whatever it holds, the answer is a ValueError."""

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn

from packnet_pl.core.state import check_name
from packnet_pl.models.preparation import Preparation
from packnet_pl.packed.old_formats import OLDEST

__all__ = ["FORMAT", "STORED_TYPES", "check_header", "expected_tensors", "parse_header"]

FORMAT = 2
STORED_TYPES = {"float32": 4, "float64": 8, "float16": 2, "bfloat16": 2}
"""Types that weights may have in the network, and bytes of each."""

# Of format 2. A new key also goes into old_formats.py, with what older files say of it, and into docs/format.md.
_KEYS = {"format", "backbone", "tasks", "packnet", "weights", "aliases", "history", "checksums"}
_TASK_KEYS = {"name", "num_classes", "class_names", "input_shape", "mean", "std", "preparation", "ratio", "accuracy"}

_MOST_CLASSES = 1 << 20
_MOST_PIXELS = 1 << 13
_MOST_DIMENSIONS = 8


def parse_header(text: str) -> dict[str, Any]:
    """Returns the header, of whose content only the format is known to be one that this version reads.

    Raises:
        ValueError: If it is no JSON object, or of another format.
    """
    try:
        header = json.loads(text, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("its header is nested too deeply") from error
    if not isinstance(header, dict) or type(header.get("format")) is not int:
        _refuse("its header names no format")
    version = header["format"]
    if not OLDEST <= version <= FORMAT:
        hint = ": a newer version of packnet_pl wrote it" if version > FORMAT else ""
        _refuse(f"it has format {version}; this version reads formats {OLDEST} to {FORMAT}{hint}")
    return header


def check_header(header: Mapping[str, Any]) -> None:
    """Does nothing for a header of format 2 all of whose entries are what they should be.

    Names of tensors are looked at where the tensors are read, and the state of PackNet where it is loaded.

    Raises:
        ValueError: Otherwise.
    """
    if header.keys() != _KEYS:
        missing, unknown = sorted(_KEYS - header.keys()), sorted(header.keys() - _KEYS)
        _refuse(f"its header has no {missing}" if missing else f"its header has the unknown entries {unknown[:3]}")
    for key, kind in (("tasks", list), ("weights", dict), ("aliases", dict), ("history", list), ("checksums", dict)):
        if not isinstance(header[key], kind):
            _refuse(f"{key} in its header is a {type(header[key]).__name__}")
    for key in ("backbone", "packnet"):
        if not isinstance(header[key], (dict, type(None))):
            _refuse(f"{key} in its header is a {type(header[key]).__name__}")
    if not header["tasks"]:
        _refuse("it holds no task")
    for task in header["tasks"]:
        _check_task(task)
    names = [task["name"] for task in header["tasks"]]
    if len(set(names)) != len(names):
        _refuse(f"it names a task twice: {names}")
    if header["packnet"] is not None and header["packnet"].get("tasks") != names:
        _refuse(f"the tasks that own weights are not its tasks {names}")
    if header["packnet"] is None and header["weights"]:
        _refuse("its weights have owners, but no task owns any")
    for name, layer in header["weights"].items():
        _check_layer(name, layer, len(names))
    for alias, name in header["aliases"].items():
        if not isinstance(name, str) or name in header["aliases"]:
            _refuse(f"{alias} is said to be another name of {name!r}")


def _check_task(task: Any) -> None:
    if not isinstance(task, dict):
        _refuse(f"a task in its header is a {type(task).__name__}")
    if set(task) != _TASK_KEYS:
        _refuse(f"a task in its header has the entries {sorted(task)}, expected are {sorted(_TASK_KEYS)}")
    check_name(task["name"])
    where = f"task {task['name']!r}"
    if not _is_count(task["num_classes"], 2, _MOST_CLASSES):
        _refuse(f"{where} has {task['num_classes']!r} classes; allowed is 2 to {_MOST_CLASSES}")
    names = task["class_names"]
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        _refuse(f"{where}: its class names are no list of strings")
    if len(names) not in (0, task["num_classes"]):
        _refuse(f"{where} has {len(names)} class names for {task['num_classes']} classes")
    shape = task["input_shape"]
    if not isinstance(shape, list) or len(shape) not in (0, 3) or not all(_is_count(n, 1, _MOST_PIXELS) for n in shape):
        _refuse(f"{where} takes pictures of shape {shape!r}; allowed are three numbers up to {_MOST_PIXELS}, or none")
    for key in ("mean", "std"):
        numbers = task[key]
        if not isinstance(numbers, list) or not all(_is_number(n, -math.inf, math.inf) for n in numbers):
            _refuse(f"{where}: {key} is {numbers!r}; allowed is a list of finite numbers")
        if len(numbers) not in ((0, shape[0]) if shape else range(_MOST_PIXELS)):
            _refuse(f"{where}: {key} has {len(numbers)} numbers for {shape[0]} channels")
    if any(number <= 0 for number in task["std"]):
        _refuse(f"{where}: std is {task['std']}; allowed are numbers above 0")
    _check_preparation(where, task["preparation"], shape)
    for key in ("ratio", "accuracy"):
        if task[key] is not None and not _is_number(task[key], 0, 1):
            _refuse(f"{where}: {key} is {task[key]!r}; allowed is null, or 0 to 1")


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
        _refuse(f"{where} takes pictures of shape {shape}, and their preparation gives {list(found.input_shape)}")
    if found.shorter_side is not None and found.shorter_side > _MOST_PIXELS:
        _refuse(f"{where}: the shorter side is {found.shorter_side}; allowed is up to {_MOST_PIXELS}")


def _check_layer(name: str, layer: Any, tasks: int) -> None:
    if not isinstance(layer, dict) or set(layer) != {"shape", "dtype", "counts"}:
        _refuse(f"what it says of the weights {name} is not shape, dtype and counts")
    shape, counts = layer["shape"], layer["counts"]
    if not isinstance(layer["dtype"], str) or layer["dtype"] not in STORED_TYPES:
        _refuse(f"{name} is of the type {layer['dtype']!r}; allowed are {sorted(STORED_TYPES)}")
    if not isinstance(shape, list) or len(shape) > _MOST_DIMENSIONS or not all(_is_count(n, 0, 1 << 40) for n in shape):
        _refuse(f"{name} has the shape {shape!r}")
    if not isinstance(counts, list) or len(counts) != tasks + 1 or not all(_is_count(n, 0, 1 << 60) for n in counts):
        _refuse(f"{name} does not say how many weights are free and how many each of {tasks} tasks owns")
    if sum(counts) != math.prod(shape):
        _refuse(f"{name} has the shape {shape}, and {sum(counts)} owners")


def _is_count(value: Any, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most


def _is_number(value: Any, least: float, most: float) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and least <= value <= most


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"its header holds {name}")


def _refuse(reason: str) -> NoReturn:
    raise ValueError(reason)


def expected_tensors(header: Mapping[str, Any]) -> Iterable[str]:
    """Yields the names of the tensors of which the number does not depend on the network: owners, values and heads."""
    for name in header["weights"]:
        yield from (f"values/{name}", f"owners/{name}")
    for number in range(len(header["tasks"])):
        yield from (f"heads/{number}/weight", f"heads/{number}/bias")
