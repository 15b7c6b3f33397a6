"""The packed file: shared weights once, their owners, and a head per task, in one safetensors file.

Format 0 is plain: tensors ``shared/<name>``, ``owners/<name>`` (uint8), ``heads/<number>/<name>`` and, where tasks keep
norms or biases of their own, ``copies/<number>/<name>``, and under the metadata key ``packnet_pl`` a JSON header with
``format``, ``backbone`` (builder name and arguments, or null), ``tasks`` (in order: ``name``, ``num_classes``,
``class_names``, ``input_shape``, ``mean``, ``std``) and ``packnet`` (what PackNet knows beside owners and copies; null
if all tasks use all weights) and ``history`` (what was measured of the tasks, or empty).
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from packnet_pl.core import PackNet
from packnet_pl.core.state import Keeping, check_keeping
from packnet_pl.files import replacing
from packnet_pl.models import Heads, TaskInfo, build_backbone
from packnet_pl.packed.network import PackedNetwork

__all__ = [
    "Packable",
    "Packed",
    "build_packed_backbone",
    "load_packed",
    "packed_keeping",
    "read_packed",
    "save_packed",
    "unpack_into",
]

FORMAT = 0
_KEY = "packnet_pl"


class Packable(Protocol):
    """What can be packed: a TaskClassifier, or anything with these three."""

    backbone: nn.Module
    heads: Heads
    packnet: PackNet | None


@dataclass(frozen=True)
class Packed:
    """What a packed file holds, as it was read.

    Attributes:
        path: Where it was.
        header: See the module's docstring.
        tensors: Name -> tensor, likewise.
    """

    path: str
    header: dict[str, Any]
    tensors: dict[str, Tensor]

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks, in order."""
        return [entry["name"] for entry in self.header["tasks"]]

    @property
    def history(self) -> list[dict[str, Any]]:
        """What was measured of the tasks, as far as whoever wrote the file gave it."""
        return list(self.header["history"])


def save_packed(model: Packable, path: str | os.PathLike[str], *, history: Sequence[Mapping[str, Any]] = ()) -> None:
    """Writes the network with all its tasks to one file, which is replaced as a whole.

    Args:
        model: Has ``backbone``, ``heads`` and ``packnet``, as a TaskClassifier does.
        path: Where to; the ending ``.safetensors`` is usual.
        history: What was measured of the tasks, for whoever goes on from the file: JSON takes it.

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
        state = packnet.state_dict(model if isinstance(model, nn.Module) else None)
        tensors |= {f"owners/{name}": owner for name, owner in state.pop("owners").items()}
        for number, copies in enumerate(state.pop("copies").values()):
            tensors |= {f"copies/{number}/{name}": value for name, value in copies.items()}
    for number, task in enumerate(model.heads.infos):
        tensors |= {f"heads/{number}/{name}": value for name, value in model.heads[task].state_dict().items()}
    header = {
        "format": FORMAT,
        "backbone": getattr(model.backbone, "builder", None),
        "tasks": [{"name": task, **info.dump()} for task, info in model.heads.infos.items()],
        "packnet": state,
        "history": list(history),
    }
    # Clones: safetensors refuses tensors that share memory, as tied weights do.
    plain = {name: value.detach().cpu().clone(memory_format=torch.contiguous_format) for name, value in tensors.items()}
    with replacing(path) as temporary:
        # Bytes, written by Python: a full disk is an OSError then, as everywhere else.
        temporary.write_bytes(save(plain, metadata={_KEY: json.dumps(header, ensure_ascii=False)}))


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


def read_packed(path: str | os.PathLike[str]) -> Packed:
    """Returns what :func:`save_packed` wrote, without building anything; no code in it is run.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a packed file, of another format, or damaged.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no packed file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if _KEY not in metadata:
                raise ValueError(f"{path} is a safetensors file, but not a packed network: it has no {_KEY!r} header")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        header = json.loads(metadata[_KEY])
    except (SafetensorError, json.JSONDecodeError) as error:
        raise ValueError(f"{path} is not a packed file, or is damaged: {error}") from error
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        found = header.get("format") if isinstance(header, dict) else header
        raise ValueError(f"{path} has format {found!r}; this version reads format {FORMAT}")
    missing = {"backbone", "tasks", "packnet", "history"} - set(header)
    if missing:
        raise ValueError(f"{path} is damaged: its header has no {sorted(missing)}")
    return Packed(str(path), header, tensors)


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
