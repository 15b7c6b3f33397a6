"""Checks that the tensors of a packed file are those that its header describes: names, types, shapes, sizes."""

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

from packnet_pl.container.header import STORED_TYPES, narrow_shapes
from packnet_pl.container.stored_statistics import PREFIX, check_statistics
from packnet_pl.container.table import Stored
from packnet_pl.text import brief, named

__all__ = ["CHECKSUM", "check_stored", "own_names"]

CHECKSUM = "checksum"
_LARGEST_GROWTH = 256
_ALWAYS_ALLOWED = 1 << 20
_OWN = re.compile("copies/(0|[1-9][0-9]*)/(.+)")


def check_stored(header: Mapping[str, Any], stored: Mapping[str, Stored], size: int) -> None:
    """Checks the table against the header; no tensor is read.

    Args:
        header: Checked.
        stored: Name -> entry of the table, without the checksum of the header.
        size: Of the file, in bytes.

    Raises:
        ValueError: Otherwise.
    """
    checksums = header["checksums"]
    if stored.keys() != checksums.keys():
        wrong = sorted(stored.keys() ^ checksums.keys())
        raise ValueError(f"its tensors are not those that its header lists: {brief(wrong)}")
    for name, checksum in checksums.items():
        if not isinstance(checksum, str) or not re.fullmatch(f"{stored[name].dtype}:[0-9a-f]{{32}}", checksum):
            raise ValueError(f"the checksum of {named(name)}, a {stored[name].dtype}, is {brief(checksum)}")
    expected = set(_expected(header))
    missing = sorted(expected - stored.keys())
    unknown = sorted(name for name in stored.keys() - expected if not name.startswith(("shared/", "copies/", PREFIX)))
    if missing or unknown:
        raise ValueError(f"it has no {brief(missing)}" if missing else f"{brief(unknown)} belong to nothing")
    needed = sum(math.prod(layer["shape"]) * STORED_TYPES[layer["dtype"]] for layer in header["weights"].values())
    if needed > max(_LARGEST_GROWTH * size, _ALWAYS_ALLOWED):
        raise ValueError(f"it asks for {needed} bytes of weights, and is {size} bytes long")
    for name, layer in header["weights"].items():
        _check_layer(name, layer, stored)
    _check_heads(header["tasks"], narrow_shapes(header), stored)
    _check_own(header, stored)
    check_statistics(header, stored)


def own_names(stored: Iterable[str], tasks: int) -> list[set[str]]:
    """Returns for each task the names of the tensors that belong to it alone.

    Args:
        stored: Names of tensors.
        tasks: Number of tasks.

    Raises:
        ValueError: If one of them belongs to no task.
    """
    found: list[set[str]] = [set() for _ in range(tasks)]
    for key in stored:
        if not key.startswith("copies/"):
            continue
        match = _OWN.fullmatch(key)
        if match is None or len(match[1]) > 3 or int(match[1]) >= tasks:
            raise ValueError(f"{brief(key)} belongs to nothing: there are {tasks} tasks")
        found[int(match[1])].add(match[2])
    return found


def _expected(header: Mapping[str, Any]) -> Iterable[str]:
    """Yields the names of the tensors that do not depend on the network: owners, masks, values and heads."""
    for name, layer in header["weights"].items():
        yield from (f"values/{name}", f"owners/{name}")
        yield from (f"masks/{number}/{name}" for number, count in enumerate(layer.get("unused", ())) if count)
    for number in range(len(header["tasks"])):
        yield from (f"heads/{number}/weight", f"heads/{number}/bias")


def _check_layer(name: str, layer: Mapping[str, Any], stored: Mapping[str, Stored]) -> None:
    values, coded, owned = stored[f"values/{name}"], stored[f"owners/{name}"], sum(layer["counts"][1:])
    if values.shape != (owned,) or values.dtype not in STORED_TYPES:
        found = f"{values.dtype} {brief(list(values.shape))}"
        raise ValueError(f"{named(name)} has values of {found}, and {owned} owned weights")
    if len(coded.shape) != 1 or coded.dtype != "uint8":
        raise ValueError(f"the owners of {named(name)} are no bytes")
    for number, count in enumerate(layer.get("unused", ())):
        mask = stored[f"masks/{number}/{name}"] if count else coded
        if len(mask.shape) != 1 or mask.dtype != "uint8":
            raise ValueError(f"masks/{number}/{named(name)} is no bytes")


def _check_heads(
    tasks: list[Mapping[str, Any]], narrow: Mapping[str, Mapping[str, Any]], stored: Mapping[str, Stored]
) -> None:
    """Checks types and shapes of heads: those of tasks that are as wide as the network take as many features."""
    wide = [number for number, task in enumerate(tasks) if task["name"] not in narrow]
    first = stored[f"heads/{wide[0] if wide else 0}/weight"]
    for number, task in enumerate(tasks):
        weight, bias = stored[f"heads/{number}/weight"], stored[f"heads/{number}/bias"]
        if len(weight.shape) != 2 or weight.shape[0] != task["num_classes"] or bias.shape != weight.shape[:1]:
            raise ValueError(f"the head of task {brief(task['name'])} is not one of {task['num_classes']} classes")
        if wide and weight.shape[1:] != first.shape[1:] and (number in wide or weight.shape[1:] > first.shape[1:]):
            raise ValueError(f"its heads take {first.shape[-1]} features, that of {brief(task['name'])} others")
        if {weight.dtype, bias.dtype} != {first.dtype} or first.dtype not in STORED_TYPES:
            raise ValueError(
                f"the head of task {brief(task['name'])} is {weight.dtype}, with a bias of {bias.dtype}; allowed is "
                f"one of {sorted(STORED_TYPES)} for all heads"
            )


def _check_own(header: Mapping[str, Any], stored: Mapping[str, Stored]) -> None:
    """Checks tensors of single tasks, and that no name stands for two tensors, or for none."""
    own = own_names(stored, len(header["tasks"]))
    shared = {name.removeprefix("shared/") for name in stored if name.startswith("shared/")}
    state, networks = header["packnet"], header["packnet"] is None
    per_task = networks or "per_task" in (state["norm"], state["bias"])
    for number, names in enumerate(own):
        if names != own[0] or (names and not per_task):
            name = min(names ^ (own[0] if per_task else set()))
            raise ValueError(f"copies/{number}/{named(name)} is not a tensor that each of its tasks has of its own")
        for name in names:
            mine, others = (
                stored[f"copies/{number}/{name}"],
                stored.get(f"{'copies/0' if networks else 'shared'}/{name}"),
            )
            narrow = narrow_shapes(header).get(header["tasks"][number]["name"], {}).get(name)
            shape = others.shape if narrow is None and others is not None else tuple(narrow or ())
            if others is None or (mine.dtype, mine.shape) != (others.dtype, shape):
                raise ValueError(f"copies/{number}/{named(name)} is not of the type and shape that others have")
    if networks and own[0] and shared:
        raise ValueError(f"{named(min(shared))} is shared, and each task has a network of its own")
    if twice := shared & header["weights"].keys():
        raise ValueError(f"{named(min(twice))} is shared, and has owners")
    known = shared | header["weights"].keys() | own[0]
    for alias, name in header["aliases"].items():
        if name not in known or alias in known:
            raise ValueError(f"{named(alias)} is said to be another name of {named(name)}, which is not in the file")
