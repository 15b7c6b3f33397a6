"""The packed file: shared weights once, their owners, and a head per task, in one safetensors file.

Format 0 is plain: tensors ``shared/<name>``, ``owners/<name>`` (uint8) and ``heads/<number>/<name>``, and under the
metadata key ``packnet_pl`` a JSON header with ``format``, ``backbone`` (builder name and arguments, or null), ``tasks``
(in order: ``name``, ``num_classes``, ``class_names``, ``input_shape``, ``mean``, ``std``) and ``packnet`` (what PackNet
knows beside the owners; null if all tasks use all weights).
"""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from packnet_pl.core import PackNet
from packnet_pl.files import replacing
from packnet_pl.models import Heads, TaskInfo, build_backbone
from packnet_pl.packed.network import PackedNetwork

__all__ = ["Packable", "load_packed", "save_packed"]

FORMAT = 0
_KEY = "packnet_pl"


class Packable(Protocol):
    """What can be packed: a TaskClassifier, or anything with these three."""

    backbone: nn.Module
    heads: Heads
    packnet: PackNet | None


def save_packed(model: Packable, path: str | os.PathLike[str]) -> None:
    """Writes the network with all its tasks to one file, which is replaced as a whole.

    Args:
        model: Has ``backbone``, ``heads`` and ``packnet``, as a TaskClassifier does.
        path: Where to; the ending ``.safetensors`` is usual.

    Raises:
        RuntimeError: If a finished task's weights were changed from outside.
        ValueError: If a task has a head but is not finished.
    """
    packnet = model.packnet
    unfinished = [task for task in model.heads.infos if packnet is not None and task not in packnet.tasks]
    if unfinished:
        raise ValueError(f"cannot save {path}: tasks {unfinished} are not finished; fit them to their end first")
    tensors = {f"shared/{name}": value for name, value in model.backbone.state_dict().items()}
    state = None
    if packnet is not None:
        state = packnet.state_dict()
        tensors |= {f"owners/{name}": owner for name, owner in state.pop("owners").items()}
    for number, task in enumerate(model.heads.infos):
        tensors |= {f"heads/{number}/{name}": value for name, value in model.heads[task].state_dict().items()}
    header = {
        "format": FORMAT,
        "backbone": getattr(model.backbone, "builder", None),
        "tasks": [{"name": task, **info.dump()} for task, info in model.heads.infos.items()],
        "packnet": state,
    }
    # Clones: safetensors refuses tensors that share memory, as tied weights do.
    plain = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
    with replacing(path) as temporary:
        save_file(plain, temporary, metadata={_KEY: json.dumps(header, ensure_ascii=False)})


def load_packed(path: str | os.PathLike[str], *, backbone: nn.Module | None = None) -> PackedNetwork:
    """Reads a packed file; no code in it is run.

    Args:
        path: What :func:`save_packed` wrote.
        backbone: The shared part with any weights, where the file does not name one that this version can build.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a packed file, of another format, damaged, or does not fit the backbone.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no packed file {path}")
    header, tensors = _read(path)
    if header.get("format") != FORMAT:
        raise ValueError(f"{path} has format {header.get('format')!r}; this version reads format {FORMAT}")
    if backbone is None:
        if header["backbone"] is None:
            raise ValueError(f"{path} names no backbone: give the module as load_packed(path, backbone=...)")
        backbone = build_backbone(header["backbone"])
    try:
        backbone.load_state_dict(_below("shared/", tensors))
        heads = _heads(header, tensors, path)
        packnet = None
        if header["packnet"] is not None:
            packnet = PackNet(backbone)
            packnet.load_state_dict({**header["packnet"], "owners": _below("owners/", tensors)})
            packnet.verify()
    except RuntimeError as error:
        raise ValueError(f"{path} does not fit the backbone or is damaged: {' '.join(str(error).split())}") from error
    return PackedNetwork(backbone, heads, packnet)


def _read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if _KEY not in metadata:
                raise ValueError(f"{path} is a safetensors file, but not a packed network: it has no {_KEY!r} header")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        return json.loads(metadata[_KEY]), tensors
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a packed file, or is damaged: {error}") from error


def _heads(header: Mapping[str, Any], tensors: Mapping[str, Tensor], path: str | os.PathLike[str]) -> Heads:
    weights = [_below(f"heads/{number}/", tensors) for number in range(len(header["tasks"]))]
    if not weights or any("weight" not in parts for parts in weights):
        raise ValueError(f"{path} is damaged: not every task has a head")
    heads = Heads(weights[0]["weight"].shape[1])
    for entry, parts in zip(header["tasks"], weights, strict=True):
        heads.add(entry["name"], TaskInfo.parse(entry)).load_state_dict(parts)
    return heads


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
