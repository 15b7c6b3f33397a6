"""Networks from packed files."""

import os
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from packnet_pl.core import PackNet
from packnet_pl.core.state import Keeping, check_keeping
from packnet_pl.models import Heads, TaskInfo, build_backbone
from packnet_pl.packed.file import Packable, Packed, read_packed
from packnet_pl.packed.network import PackedNetwork

__all__ = ["build_packed_backbone", "load_packed", "packed_keeping", "unpack_into"]


def load_packed(path: str | os.PathLike[str], *, backbone: nn.Module | None = None) -> PackedNetwork:
    """Reads a packed file; no code in it is run.

    Args:
        path: What :func:`save_packed` wrote.
        backbone: The shared part with any weights, where the file does not name one that this version can build.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a packed file, of another format, damaged, or does not fit the backbone.
    """
    packed = read_packed(path)
    if backbone is None:
        backbone = build_packed_backbone(packed)
    heads, packnet = _fill(backbone, packed)
    return PackedNetwork(backbone, heads, packnet)


def build_packed_backbone(packed: Packed) -> nn.Module:
    """Returns the backbone that the file names, with random weights.

    Raises:
        ValueError: If it names none that this version can build.
    """
    if packed.header["backbone"] is None:
        raise ValueError(f"{packed.path} names no backbone: give the module as load_packed(path, backbone=...)")
    return build_backbone(packed.header["backbone"])


def packed_keeping(packed: Packed) -> tuple[Keeping, Keeping]:
    """Returns how norms and biases are kept: "shared" or "per_task", twice."""
    state = packed.header["packnet"] or {}
    return check_keeping("norm", state.get("norm", "shared")), check_keeping("bias", state.get("bias", "shared"))


def unpack_into(model: Packable, packed: Packed) -> None:
    """Gives ``model``, which has no tasks yet, everything that the file holds.

    Raises:
        ValueError: If the file does not fit its backbone, or owners are kept in one of them only.
    """
    if (model.packnet is None) != (packed.header["packnet"] is None):
        raise ValueError(f"{packed.path} and the network do not agree on whether tasks own weights")
    heads, packnet = _fill(model.backbone, packed)
    for name, info in heads.infos.items():
        _load(model.heads.add(name, info), heads[name].state_dict())
    if model.packnet is not None and packnet is not None:
        model.packnet.load_state_dict(packnet.state_dict())


def _fill(backbone: nn.Module, packed: Packed) -> tuple[Heads, PackNet | None]:
    tensors = packed.tensors
    try:
        _load(backbone, _below("shared/", tensors))
        heads = _heads(packed.header, tensors, packed.path)
        packnet = None
        if packed.header["packnet"] is not None:
            state = packed.header["packnet"]
            norm, bias = packed_keeping(packed)
            packnet = PackNet(backbone, norm=norm, bias=bias)
            copies = {task: _below(f"copies/{number}/", tensors) for number, task in enumerate(state["tasks"])}
            packnet.load_state_dict({**state, "owners": _below("owners/", tensors), "copies": copies})
            packnet.verify()
    except RuntimeError as error:
        said = " ".join(str(error).split())
        raise ValueError(f"{packed.path} does not fit the backbone or is damaged: {said}") from error
    return heads, packnet


def _heads(header: Mapping[str, Any], tensors: Mapping[str, Tensor], path: str) -> Heads:
    weights = [_below(f"heads/{number}/", tensors) for number in range(len(header["tasks"]))]
    if not weights or any("weight" not in parts for parts in weights):
        raise ValueError(f"{path} is damaged: not every task has a head")
    heads = Heads(weights[0]["weight"].shape[1])
    for entry, parts in zip(header["tasks"], weights, strict=True):
        _load(heads.add(entry["name"], TaskInfo.parse(entry)), parts)
    return heads


def _load(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Loads ``tensors`` in the types in which they were trained, which need not be those of a new module."""
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        if name in tensors:
            tensor.data = tensor.data.to(tensors[name].dtype)
    module.load_state_dict(tensors)


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
