"""Reads the state of a sharded network from a checkpoint of ``torch.distributed.checkpoint``."""

import json
from collections.abc import Mapping
from os import PathLike
from typing import Any

import torch
from torch import Tensor

from packnet_pl.core.shards import own_part, with_shards

__all__ = ["IN_LIGHTNING", "PLAIN", "read_sharded_state"]

PLAIN = "plain"
"""Key of what is no tensor, as JSON."""

IN_LIGHTNING = "state_dict.packnet"
"""Where checkpoints of Lightning have the state: among the tensors of the module."""

_MOMENTS, _NUMBER = ("learning", "optimizer", "state"), 3
"""Below which path a state has what a mask's optimizer knows of its parameters; where in a path their number is."""
_Path = tuple[str, ...]


def read_sharded_state(
    path: str | PathLike[str], key: str, of_tasks: Mapping[str, Tensor] | None = None
) -> dict[str, Any]:
    """Returns what :func:`packnet_pl.core.sharded_state_dict` returned, as :meth:`PackNet.load_state_dict` takes it.

    Args:
        path: The folder of the checkpoint.
        key: Under which the state was saved.
        of_tasks: Name -> tensor of the network of which tasks have something, whole or sharded: each process reads its
            rows, and all must call it alike. None reads everything whole, in this process alone.

    Raises:
        ValueError: If there is no such state in it.
    """
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata

    from packnet_pl.core.plain_shards import load_shards_, read_index

    known = read_index(path).state_dict_metadata
    stored = {
        name.removeprefix(f"{key}."): found
        for name, found in known.items()
        if name.startswith(f"{key}.") and isinstance(found, TensorStorageMetadata)
    }
    if PLAIN not in stored:
        raise ValueError(f"{path} holds no PackNet state under {key!r}; it holds {sorted(known)[:5]}")
    plain = torch.empty(stored[PLAIN].size, dtype=torch.uint8)
    alone = of_tasks is None
    load_shards_({key: {PLAIN: plain}}, path, alone=alone)
    read = json.loads(plain.numpy().tobytes())
    tensors = {}
    places: list[_Path] = [tuple(place) for place in read["tensors"]]
    scored = [place[-1] for place in places if place[:2] == ("learning", "scores")]
    for place in places:
        found = stored["/".join(place)]
        name = scored[int(place[_NUMBER])] if place[: len(_MOMENTS)] == _MOMENTS else place[-1]
        tensors[place] = _room_for(found.size, found.properties.dtype, (of_tasks or {}).get(name))
    load_shards_({key: {"/".join(place): tensor for place, tensor in tensors.items()}}, path, alone=alone)
    for place, tensor in tensors.items():
        _put(read["state"], place, tensor)
    _number_moments_(read["state"])
    state: dict[str, Any] = read["state"]
    return state


def _room_for(size: torch.Size, dtype: torch.dtype, like: Tensor | None) -> Tensor:
    """Returns an empty tensor, with the rows of ``like`` if it has as many; bits are of no rows."""
    if like is None or size[:1] != like.shape[:1] or (len(size) == 1 < like.dim() and dtype == torch.uint8):
        return torch.empty(size, dtype=dtype)
    part = own_part(like)
    return with_shards(torch.empty(part.shape[:1] + size[1:], dtype=dtype, device=part.device), like)


def _put(state: dict[str, Any], place: _Path, tensor: Tensor) -> None:
    *above, name = place
    for key in above:
        state = state[key]
    state[name] = tensor


def _number_moments_(state: dict[str, Any]) -> None:
    """Names parameters in the optimizer of a mask by numbers again, which JSON has made strings."""
    optimizer = state.get("learning", {}).get("optimizer")
    if optimizer:
        optimizer["state"] = {int(number): moments for number, moments in optimizer["state"].items()}
