"""Parses and checks the JSON header of a packed file: whatever it holds, at worst a ValueError of one line."""

import math
import re
from collections.abc import Mapping
from itertools import accumulate, repeat
from typing import Any, NoReturn

from packnet_pl.capacity import MAX_TASKS
from packnet_pl.choices import KEEPINGS, PRUNABLES, check_choice
from packnet_pl.container.old_formats import OLDEST
from packnet_pl.container.table import parse_json
from packnet_pl.container.task_header import check_task, is_count
from packnet_pl.text import brief, check_text, named

__all__ = ["FORMAT", "GROWN", "STORED_TYPES", "WITHOUT_MASKS", "check_header", "narrow_shapes", "parse_header"]

FORMAT = 4
WITHOUT_MASKS = 3
"""The format of files in which each task uses all weights of earlier ones: versions before masks read them."""
GROWN = 5
"""The format of files without masks in which tasks are narrower than the network."""
STORED_TYPES = {"float32": 4, "float64": 8, "float16": 2, "bfloat16": 2}
"""Types that weights may have in the network, and bytes of each."""

# Of formats 3 to 5. A new key also goes into old_formats.py, with what older files say of it, and into docs/format.md.
_KEYS = {"format", "backbone", "tasks", "packnet", "parameters", "weights", "aliases", "history", "recipe", "checksums"}
_MOST_DIMENSIONS = 8
_LONGEST_NAME = 1000
_DEEPEST = 32
_SURROGATE = re.compile("[\ud800-\udfff]")


def parse_header(text: str) -> dict[str, Any]:
    """Parses the header; of its content only the format is checked.

    Raises:
        ValueError: If it is no JSON object, of another format, nested too deeply, or holds half a character.
    """
    header = parse_json(text)
    if not isinstance(header, dict) or type(header.get("format")) is not int:
        _refuse("its header names no format")
    version = header["format"]
    if not OLDEST <= version <= GROWN:
        hint = ": a newer version of packnet_pl wrote it" if version > GROWN else ""
        _refuse(f"it has format {brief(version)}; this version reads formats {OLDEST} to {GROWN}{hint}")
    _check_nesting(header)
    return header


def check_header(header: Mapping[str, Any]) -> None:  # noqa: C901, PLR0912 - a list of checks
    """Checks every entry of a header of format 3 to 5.

    Names of tensors are compared with the table, and what the state of PackNet says is checked where it is loaded.

    Raises:
        ValueError: Otherwise.
    """
    if header.keys() != _KEYS:
        missing, unknown = sorted(_KEYS - header.keys()), sorted(header.keys() - _KEYS)
        _refuse(f"its header has no {missing}" if missing else f"its header has the unknown entries {brief(unknown)}")
    for key, kind in (("tasks", list), ("weights", dict), ("aliases", dict), ("history", list), ("checksums", dict)):
        if not isinstance(header[key], kind):
            _refuse(f"{key} in its header is a {type(header[key]).__name__}")
    for key in ("backbone", "packnet", "recipe"):
        if not isinstance(header[key], (dict, type(None))):
            _refuse(f"{key} in its header is a {type(header[key]).__name__}")
    if header["parameters"] is not None and not is_count(header["parameters"], 0, 1 << 60):
        _refuse(f"parameters in its header is {brief(header['parameters'])}; allowed is a count, or null")
    if not header["tasks"]:
        _refuse("it holds no task")
    if len(header["tasks"]) > MAX_TASKS:
        _refuse(f"it holds {len(header['tasks'])} tasks; allowed are {MAX_TASKS}")
    for task in header["tasks"]:
        check_task(task)
    names = [task["name"] for task in header["tasks"]]
    if len(set(names)) != len(names):
        _refuse(f"it names a task twice: {brief(names)}")
    _check_backbone(header["backbone"])
    _check_packnet(header["packnet"], names)
    for name, layer in header["weights"].items():
        _check_layer(named(name), layer, len(names), has_masks=header["format"] == FORMAT)
    _check_shapes(header, names)
    if header["packnet"] is None and header["weights"]:
        _refuse("its weights have owners, but no task owns any")
    for alias, name in header["aliases"].items():
        check_text("another name of a tensor", alias, _LONGEST_NAME)
        if not isinstance(name, str) or name in header["aliases"] or alias in header["weights"]:
            _refuse(f"{named(alias)} is said to be another name of {brief(name)}")


def narrow_shapes(header: Mapping[str, Any]) -> dict[str, dict[str, list[int]]]:
    """Returns task -> tensor name -> shape, for the tasks that are narrower than the network is now."""
    shapes: dict[str, dict[str, list[int]]] = (header["packnet"] or {}).get("shapes", {})
    return shapes


def _check_nesting(header: Mapping[str, Any]) -> None:
    level: list[Any] = [header]
    for _ in range(_DEEPEST):
        inside: list[Any] = []
        for node in level:
            if isinstance(node, dict):
                inside += [*node, *node.values()]
            elif isinstance(node, list):
                inside += node
            elif isinstance(node, str) and not node.isascii() and _SURROGATE.search(node):
                _refuse(f"its header holds {brief(node)}, in which a character is only half there")
        level = inside
        if not level:
            return
    _refuse(f"its header is nested too deeply: more than {_DEEPEST} lists or objects in each other")


def _check_backbone(builder: Any) -> None:
    if builder is None:
        return
    if builder.keys() != {"name", "arguments"} or not isinstance(builder["arguments"], dict):
        _refuse(f"backbone in its header is {brief(builder)}; allowed is null, or name and arguments")
    texts = [builder["name"], *builder["arguments"]]
    texts += [value for value in builder["arguments"].values() if isinstance(value, str)]
    for text in texts:
        check_text("a name of the backbone or its arguments", text, _LONGEST_NAME)
    for name, value in builder["arguments"].items():
        if not _is_argument(value):
            _refuse(f"argument {named(name)} of the backbone is {brief(value)}; allowed are names, numbers and lists")


def _is_argument(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_argument, value))
    return value is None or type(value) in (str, int, float)


def _check_packnet(state: Any, names: list[str]) -> None:  # noqa: C901 - a list of checks
    if state is None:
        return
    if state.get("tasks") != names:
        _refuse(f"the tasks that own weights are not its tasks {brief(names)}")
    if state.get("open_task") is not None or state.get("phase") is not None:
        _refuse(f"its task {brief(state.get('open_task'))} is not finished")
    for key in ("norm", "bias"):
        if key not in state:
            _refuse(f"the state of PackNet in its header has no {key}")
        check_choice(key, state[key], KEEPINGS)
    if "prunable" in state:  # a state of format 2 has none, and means the paper's
        check_choice("prunable", state["prunable"], (*PRUNABLES, "function"))
    for key in ("owners", "copies", "masks"):
        if key in state:
            _refuse(f"the state of PackNet in its header has {key}, which are tensors")
    # Types are checked where the state is loaded; that takes any names.
    for key, kind in (("private", list), ("private_fingerprints", dict), ("fingerprints", dict)):
        for found in state[key].values() if isinstance(state.get(key), dict) else ():
            if not isinstance(found, kind):
                _refuse(f"{key} in its header has {brief(found)}; allowed is a {kind.__name__}")
            for name in found:
                check_text(f"a name in {key}", name, _LONGEST_NAME)


def _check_shapes(header: Mapping[str, Any], names: list[str]) -> None:
    """Checks shapes of narrower tasks; that they are those of the network's tensors is found out where it is loaded."""
    shapes = narrow_shapes(header)
    if ("shapes" in (header["packnet"] or {})) != (header["format"] == GROWN):
        _refuse(f"it has format {header['format']}, and narrower tasks belong to format {GROWN} alone")
    if not isinstance(shapes, dict) or not shapes.keys() <= set(names):
        _refuse(f"shapes in its header are of {brief(list(shapes))}; allowed are tasks of {brief(names)}")
    for task, found in shapes.items():
        if not isinstance(found, dict) or not header["weights"].keys() <= found.keys():
            _refuse(f"shapes of task {brief(task)} in its header are {brief(found)}; each weight has one")
        for name, shape in found.items():
            check_text("a name in shapes", name, _LONGEST_NAME)
            most = header["weights"][name]["shape"] if name in header["weights"] else None
            if not isinstance(shape, list) or not all(is_count(n, 0, 1 << 40) for n in shape):
                _refuse(f"{named(name)} has the shape {brief(shape)} for task {brief(task)}; allowed are counts")
            if most is not None and (len(shape) != len(most) or any(a > b for a, b in zip(shape, most, strict=True))):
                _refuse(f"{named(name)} is {brief(shape)} for task {brief(task)}, and {brief(most)} in the network")


def _check_layer(name: str, layer: Any, tasks: int, *, has_masks: bool) -> None:
    keys = ["shape", "dtype", "counts", *(["unused"] if has_masks else [])]
    if not isinstance(layer, dict) or set(layer) != set(keys):
        _refuse(f"what it says of the weights {name} is not {', '.join(keys[:-1])} and {keys[-1]}")
    shape, counts = layer["shape"], layer["counts"]
    if not isinstance(layer["dtype"], str) or layer["dtype"] not in STORED_TYPES:
        _refuse(f"{name} is of the type {brief(layer['dtype'])}; allowed are {sorted(STORED_TYPES)}")
    if not isinstance(shape, list) or len(shape) > _MOST_DIMENSIONS or not all(is_count(n, 0, 1 << 40) for n in shape):
        _refuse(f"{name} has the shape {brief(shape)}")
    if not isinstance(counts, list) or len(counts) != tasks + 1 or not all(is_count(n, 0, 1 << 60) for n in counts):
        _refuse(f"{name} does not say how many weights are free and how many each of {tasks} tasks owns")
    if sum(counts) != math.prod(shape):
        _refuse(f"{name} has the shape {brief(shape)}, and {sum(counts)} owners")
    unused = layer.get("unused", [0] * tasks)
    earlier = list(accumulate(counts[1:], initial=0))[:tasks]
    if not isinstance(unused, list) or len(unused) != tasks or not all(map(is_count, unused, repeat(0), earlier)):
        _refuse(f"{name} does not say how many weights of earlier tasks each of {tasks} tasks leaves unused")


def _refuse(reason: str) -> NoReturn:
    raise ValueError(reason)
