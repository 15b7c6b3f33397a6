"""Networks from packed files."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from packnet_pl.choices import KEEPINGS, Keeping, check_choice
from packnet_pl.container.expected_tensors import own_names
from packnet_pl.container.header import STORED_TYPES
from packnet_pl.container.table import Stored
from packnet_pl.core import PackNet
from packnet_pl.core.conversion import take_types_
from packnet_pl.models import Heads, TaskInfo, backbone_skeleton, build_backbone
from packnet_pl.packed.file import Packed, open_packed
from packnet_pl.packed.network import PackedNetwork
from packnet_pl.packed.weights import unpack_owners, unpack_weights
from packnet_pl.packed.write import Packable
from packnet_pl.text import as_line, named

__all__ = ["build_packed_backbone", "load_packed", "packed_keeping", "packed_networks", "unpack_into"]

Of = TypeVar("Of", Tensor, Stored)
_DRAWING = (torch.ops.aten.normal_.default, torch.ops.aten.uniform_.default)


def load_packed(path: str | os.PathLike[str], *, backbone: nn.Module | None = None) -> PackedNetwork:
    """Reads a packed file; no code in it is run.

    Args:
        path: What :func:`save_packed` wrote.
        backbone: The shared part with any weights, where the file does not name one that this version can build.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a packed file, of another format, damaged, or does not fit the backbone.
    """
    packed = open_packed(path)
    # Outside of inference mode: what is made there could never be trained or written to again.
    with torch.inference_mode(False), torch.no_grad(), torch.random.fork_rng(devices=[]):
        if backbone is None:
            backbone = build_packed_backbone(packed)
        heads, packnet = _fill(backbone, packed)
        networks = packed_networks(packed)
        if networks:
            _load(backbone, networks[packed.tasks[0]])
        return PackedNetwork(backbone, heads, packnet, networks)


def build_packed_backbone(packed: Packed) -> nn.Module:
    """Returns the backbone that the file names, its parameters not set; the global generator is left as it was.

    What it is made of is compared with the file before any memory is spent on it.

    Raises:
        ValueError: If it names none that this version can build, or one that its weights do not fit.
    """
    builder = packed.header["backbone"]
    if builder is None:
        raise ValueError(f"{packed.path} names no backbone: give the module as load_packed(path, backbone=...)")
    try:
        _check_shapes(backbone_skeleton(build_backbone, builder), packed)
    except ValueError as error:
        raise ValueError(f"{packed.path} names a backbone that it does not fit: {as_line(error)}") from error
    with torch.random.fork_rng(devices=[]), _NotDrawn():  # type: ignore[no-untyped-call]
        return build_backbone(builder)


class _NotDrawn(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Parameters are not filled with random numbers: the file's take their place, and large networks take seconds."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _DRAWING and isinstance(args[0], nn.Parameter):
            return args[0]
        return func(*args, **(kwargs or {}))


def packed_keeping(packed: Packed) -> tuple[Keeping, Keeping]:
    """Returns how norms and biases are kept: "shared" or "per_task", twice."""
    state = packed.header["packnet"] or {}
    return check_choice("norm", state.get("norm", "shared"), KEEPINGS), check_choice(
        "bias", state.get("bias", "shared"), KEEPINGS
    )


def packed_networks(packed: Packed) -> dict[str, dict[str, Tensor]]:
    """Returns task -> tensors of its own backbone; nothing for a file whose tasks share one."""
    if packed.header["packnet"] is not None:
        return {}
    aliases = packed.header["aliases"]
    own = {task: _below(f"copies/{number}/", packed.tensors) for number, task in enumerate(packed.tasks)}
    named = {task: {alias: v[name] for alias, name in aliases.items() if name in v} for task, v in own.items()}
    return {task: v | named[task] for task, v in own.items() if v}


def unpack_into(model: Packable, packed: Packed) -> None:
    """Gives ``model``, which has no tasks yet, everything that the file holds, but for :func:`packed_networks`.

    Raises:
        ValueError: If the file does not fit its backbone, or owners are kept in one of them only.
    """
    if (model.packnet is None) != (packed.header["packnet"] is None):
        raise ValueError(f"{packed.path} and the network do not agree on whether tasks own weights")
    heads, packnet = _fill(model.backbone, packed)
    for name, info in heads.infos.items():
        _load(model.heads.add(name, info), heads[name].state_dict())
    for network in packed_networks(packed).values():
        take_types_(model.backbone, network)  # the same in all of them
    if model.packnet is not None and packnet is not None:
        model.packnet.load_state_dict(packnet.state_dict())


def _fill(backbone: nn.Module, packed: Packed) -> tuple[Heads, PackNet | None]:
    header, features = packed.header, packed.stored["heads/0/weight"].shape[1]
    with _fitting(packed):
        _check_shapes(backbone.state_dict(), packed)
        if getattr(backbone, "num_features", features) != features:
            raise ValueError(f"its heads take {features} features, the backbone has {backbone.num_features}")
    tensors = packed.tensors
    with _fitting(packed):
        heads = _heads(packed)
        if packed_networks(packed):
            return heads, None
        owners = {n: unpack_owners(layer, tensors[f"owners/{n}"]) for n, layer in header["weights"].items()}
        state = _below("shared/", tensors)
        for name, layer in header["weights"].items():
            state[name] = unpack_weights(layer, tensors[f"values/{name}"], owners[name])
        _load(backbone, state | {alias: state[name] for alias, name in header["aliases"].items()})
        del state
        if header["packnet"] is None:
            return heads, None
        norm, bias = packed_keeping(packed)
        packnet = PackNet(backbone, norm=norm, bias=bias)
        copies = {task: _below(f"copies/{number}/", tensors) for number, task in enumerate(packed.tasks)}
        packnet.load_state_dict({**header["packnet"], "owners": owners, "copies": copies})
        packnet.verify()
    return heads, packnet


@contextmanager
def _fitting(packed: Packed) -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{packed.path} does not fit the backbone or is damaged: {as_line(error)}") from error


def _check_shapes(state: Mapping[str, Any], packed: Packed) -> None:
    """Compares names, shapes and types of a backbone's state dict with what the file holds; no tensor is read for it.

    Raises:
        ValueError: If they differ.
    """
    header, stored = packed.header, packed.stored
    # Of networks that share nothing, the first is like the others.
    prefix = "copies/0/" if header["packnet"] is None and own_names(stored, len(packed.tasks))[0] else "shared/"
    found = {name: (list(of.shape), of.dtype) for name, of in _below(prefix, stored).items()}
    found |= {name: (layer["shape"], layer["dtype"]) for name, layer in header["weights"].items()}
    found |= {alias: found[name] for alias, name in header["aliases"].items()}
    wanted = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    shapes = {name: list(value.shape) for name, value in wanted.items()}
    if {name: shape for name, (shape, _) in found.items()} != shapes:
        name = min(n for n in {*found, *shapes} if n not in found or found[n][0] != shapes.get(n))
        here, there = found.get(name, ("missing",))[0], shapes.get(name, "not known")
        raise ValueError(f"{named(name)} is {here} in the file, and {there} in the network")
    _check_types({n: (str(v.dtype).removeprefix("torch."), found[n][1]) for n, v in wanted.items()}, packed)


def _check_types(types: Mapping[str, tuple[str, str]], packed: Packed) -> None:
    """Compares types: a network may have been converted from one type of numbers to another, as a whole.

    Args:
        types: Name -> type in the network and type in the file.
        packed: The file.

    Raises:
        ValueError: If they differ otherwise.
    """
    converted: dict[str, str] = {}
    for name, (wanted, found) in types.items():
        if wanted not in STORED_TYPES:
            converted[wanted] = wanted
        elif found in STORED_TYPES:
            converted.setdefault(wanted, found)
        if converted.get(wanted) != found:
            raise ValueError(
                f"{named(name)} is {found} in the file, and {converted.get(wanted, wanted)} in the network"
            )
    head = packed.stored["heads/0/weight"].dtype
    if head not in (floats := {found for found in converted.values() if found in STORED_TYPES}):
        raise ValueError(f"its heads are {head}, and the network is {' and '.join(sorted(floats))}")


def _heads(packed: Packed) -> Heads:
    heads = Heads(packed.tensors["heads/0/weight"].shape[1])
    for number, entry in enumerate(packed.header["tasks"]):
        parts = _below(f"heads/{number}/", packed.tensors)
        _load(heads.add(entry["name"], TaskInfo.parse(entry)), parts)
    return heads


def _load(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Loads ``tensors`` in the types in which they were trained, which need not be those of a new module."""
    take_types_(module, tensors)
    module.load_state_dict(tensors)


def _below(prefix: str, tensors: Mapping[str, Of]) -> dict[str, Of]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
