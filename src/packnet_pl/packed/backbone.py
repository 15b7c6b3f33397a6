"""Builds the backbone that a packed file names, after its tensors were checked, without drawing random numbers."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from packnet_pl.container.expected_tensors import own_names
from packnet_pl.container.header import STORED_TYPES
from packnet_pl.container.packed_file import PackedFile
from packnet_pl.models import backbone_skeleton, build_backbone
from packnet_pl.packed.tensors import below
from packnet_pl.text import as_line, named

__all__ = ["build_packed_backbone", "check_fits"]

_DRAWING = (torch.ops.aten.normal_.default, torch.ops.aten.uniform_.default)


def build_packed_backbone(packed: PackedFile) -> nn.Module:
    """Builds the backbone that the file names, with unset parameters; the global generator keeps its state.

    What it is made of is compared with the file before any memory is spent on it.

    Raises:
        ValueError: If it names none that this version can build, or one that its weights do not fit.
    """
    builder = packed.header["backbone"]
    if builder is None:
        raise ValueError(f"{packed.path} names no backbone: give the module as load_packed(path, backbone=...)")
    try:
        check_fits(backbone_skeleton(build_backbone, builder), packed)
    except ValueError as error:
        raise ValueError(f"{packed.path} names a backbone that it does not fit: {as_line(error)}") from error
    with torch.random.fork_rng(devices=[]), _NotDrawn():  # type: ignore[no-untyped-call]
        return build_backbone(builder)


class _NotDrawn(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Leaves parameters unset instead of drawing them: the file's replace them, and large networks take seconds."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # nothing is compiled in here: torch need not load its compiler, which takes longer than all else

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in _DRAWING and isinstance(args[0], nn.Parameter):
            return args[0]
        return func(*args, **(kwargs or {}))


def check_fits(state: Mapping[str, Any], packed: PackedFile) -> None:
    """Checks names, shapes and types of a backbone's state dict against those in the file; no tensor is read.

    Raises:
        ValueError: If they differ.
    """
    header, stored = packed.header, packed.stored
    # Of networks that share nothing, the first is like the others.
    prefix = "copies/0/" if header["packnet"] is None and own_names(stored, len(packed.tasks))[0] else "shared/"
    found = {name: (list(of.shape), of.dtype) for name, of in below(prefix, stored).items()}
    found |= {name: (layer["shape"], layer["dtype"]) for name, layer in header["weights"].items()}
    found |= {alias: found[name] for alias, name in header["aliases"].items()}
    wanted = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    shapes = {name: list(value.shape) for name, value in wanted.items()}
    if {name: shape for name, (shape, _) in found.items()} != shapes:
        name = min(n for n in {*found, *shapes} if n not in found or found[n][0] != shapes.get(n))
        here, there = found.get(name, ("missing",))[0], shapes.get(name, "not known")
        raise ValueError(f"{named(name)} is {here} in the file, and {there} in the network")
    _check_types({n: (str(v.dtype).removeprefix("torch."), found[n][1]) for n, v in wanted.items()}, packed)


def _check_types(types: Mapping[str, tuple[str, str]], packed: PackedFile) -> None:
    """Checks types: a network may only have been converted as a whole from one floating-point type to another.

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
