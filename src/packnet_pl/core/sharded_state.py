"""The state of a sharded network in checkpoints of ``torch.distributed.checkpoint``: each process writes its rows.

A checkpoint of that kind reads into tensors that are there already, and what is no tensor it would unpickle. So a state
is tensors only here: names and numbers are JSON, as bytes, and the checkpoint itself says how large each tensor is.
"""

import json
from collections.abc import Iterator, Mapping
from os import PathLike
from typing import Any

import torch
from torch import Tensor, nn

from packnet_pl.core.packnet import PackNet
from packnet_pl.core.shards import own_part, with_shards
from packnet_pl.core.slots import wholes_in

__all__ = ["load_sharded_state", "sharded_state_dict"]

_PLAIN = "plain"
_MOMENTS, _NUMBER = ("learning", "optimizer", "state"), 3
"""Below which path a state has what a mask's optimizer knows of its parameters; where in a path their number is."""
_Path = tuple[str, ...]


def sharded_state_dict(packnet: PackNet, root: nn.Module | None = None) -> dict[str, Tensor]:
    """Returns :meth:`PackNet.state_dict` as tensors only, for ``torch.distributed.checkpoint.save``.

    Owners are sharded as the weights are. For example::

        dcp.save({"model": get_model_state_dict(model), "packnet": sharded_state_dict(packnet)}, checkpoint_id=folder)

    Args:
        packnet: Of a sharded network, or another. Every process must call it alike.
        root: As for :meth:`PackNet.state_dict`.

    Raises:
        RuntimeError: If a finished task's weights were changed from outside.
    """
    state = packnet.state_dict(root)
    tensors = dict(_tensors(state))
    text = json.dumps({"state": _without_tensors(state), "tensors": [list(path) for path in tensors]})
    plain = torch.frombuffer(bytearray(text.encode()), dtype=torch.uint8)
    return {_PLAIN: plain, **{"/".join(path): tensor for path, tensor in tensors.items()}}


def load_sharded_state(packnet: PackNet, path: str | PathLike[str], key: str = "packnet") -> None:
    """Loads what :func:`sharded_state_dict` returned, into a network on as many processes as there are now.

    The weights are the module's own business: load them with ``torch.distributed.checkpoint``, before or after. Its
    checkpoints are unpickled by torch: read none that you did not write.

    Args:
        packnet: Of the same network, sharded or not. Every process must call it alike.
        path: The folder of the checkpoint.
        key: Under which the state was saved.

    Raises:
        ValueError: If there is no such state in it, or as :meth:`PackNet.load_state_dict`.
    """
    from torch.distributed.checkpoint.filesystem import FileSystemReader
    from torch.distributed.checkpoint.metadata import TensorStorageMetadata
    from torch.distributed.checkpoint.state_dict_loader import load

    reader = FileSystemReader(path)
    known = reader.read_metadata().state_dict_metadata
    stored = {
        name.removeprefix(f"{key}."): found
        for name, found in known.items()
        if name.startswith(f"{key}.") and isinstance(found, TensorStorageMetadata)
    }
    if _PLAIN not in stored:
        raise ValueError(f"{path} holds no PackNet state under {key!r}; it holds {sorted(known)[:5]}")
    plain = torch.empty(stored[_PLAIN].size, dtype=torch.uint8)
    load({key: {_PLAIN: plain}}, storage_reader=reader)
    read = json.loads(plain.numpy().tobytes())
    of_tasks = wholes_in(packnet.inventory().of_tasks)
    tensors = {}
    places: list[_Path] = [tuple(place) for place in read["tensors"]]
    scored = [place[-1] for place in places if place[:2] == ("learning", "scores")]
    for place in places:
        found = stored["/".join(place)]
        name = scored[int(place[_NUMBER])] if place[: len(_MOMENTS)] == _MOMENTS else place[-1]
        tensors[place] = _room_for(found.size, found.properties.dtype, of_tasks.get(name))
    load({key: {"/".join(place): tensor for place, tensor in tensors.items()}}, storage_reader=reader)
    for place, tensor in tensors.items():
        _put(read["state"], place, tensor)
    _number_moments_(read["state"])
    packnet.load_state_dict(read["state"])


def _room_for(size: torch.Size, dtype: torch.dtype, like: Tensor | None) -> Tensor:
    """Returns an empty tensor, with the rows of ``like`` if it has as many; bits are of no rows."""
    if like is None or size[:1] != like.shape[:1] or (len(size) == 1 < like.dim() and dtype == torch.uint8):
        return torch.empty(size, dtype=dtype)
    part = own_part(like)
    return with_shards(torch.empty(part.shape[:1] + size[1:], dtype=dtype, device=part.device), like)


def _tensors(state: Mapping[str, Any], above: _Path = ()) -> Iterator[tuple[_Path, Tensor]]:
    for name, value in state.items():
        if isinstance(value, Tensor):
            yield (*above, str(name)), value
        elif isinstance(value, Mapping):
            yield from _tensors(value, (*above, str(name)))


def _without_tensors(state: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in state.items() if not isinstance(value, Tensor)}
    return {name: _without_tensors(value) if isinstance(value, Mapping) else value for name, value in kept.items()}


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
