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
from packnet_pl.core.sharded_reading import PLAIN, read_sharded_state
from packnet_pl.core.slots import wholes_in

__all__ = ["load_sharded_state", "sharded_state_dict"]

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
    return {PLAIN: plain, **{"/".join(path): tensor for path, tensor in tensors.items()}}


def load_sharded_state(packnet: PackNet, path: str | PathLike[str], key: str = "packnet") -> None:
    """Loads what :func:`sharded_state_dict` returned, into a network on as many processes as there are now.

    The weights are the module's own business: load them with ``torch.distributed.checkpoint``, before or after. It
    unpickles what it finds; here nothing but plain data is read.

    Args:
        packnet: Of the same network, sharded or not. Every process must call it alike.
        path: The folder of the checkpoint.
        key: Under which the state was saved.

    Raises:
        ValueError: If there is no such state in it, or as :meth:`PackNet.load_state_dict`.
    """
    packnet.load_state_dict(read_sharded_state(path, key, wholes_in(packnet.inventory().of_tasks)))


def _tensors(state: Mapping[str, Any], above: _Path = ()) -> Iterator[tuple[_Path, Tensor]]:
    for name, value in state.items():
        if isinstance(value, Tensor):
            yield (*above, str(name)), value
        elif isinstance(value, Mapping):
            yield from _tensors(value, (*above, str(name)))


def _without_tensors(state: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in state.items() if not isinstance(value, Tensor)}
    return {name: _without_tensors(value) if isinstance(value, Mapping) else value for name, value in kept.items()}
