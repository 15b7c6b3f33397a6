"""Writes a network with its tasks to a packed file."""

import os
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from packnet_pl.container.packed_file import PackedFile, open_packed
from packnet_pl.core.bits import identity
from packnet_pl.core.fingerprints import owned_fingerprints
from packnet_pl.core.finite import is_finite
from packnet_pl.core.ownership import count_owners
from packnet_pl.core.packed_bits import pack_mask, unpack_mask
from packnet_pl.core.shards import is_shard, whole_of
from packnet_pl.core.slots import plain_name
from packnet_pl.distributed import rank_and_world_size, wait_for_all
from packnet_pl.models import TaskInfo
from packnet_pl.packed.feature_statistics import FeatureStatistics
from packnet_pl.packed.packable import check_packable
from packnet_pl.packed.parts import Packable, networks_of, parts_of, private_as_heads
from packnet_pl.packed.spool import Spool
from packnet_pl.packed.tensors import write_packed
from packnet_pl.packed.weights import code_mask, pack_weights

__all__ = ["Precision", "TaskFigures", "save_packed"]

Precision = Literal["fp32", "bf16", "fp16"]
_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class TaskFigures:
    """Results and facts of a task that a packed file holds beside its head.

    Attributes:
        ratio: Share of its weights that it released, in [0, 1), or None.
        accuracy: Top-1 on its test split when it was finished, in [0, 1], or None.
    """

    ratio: float | None = None
    accuracy: float | None = None


def save_packed(  # noqa: PLR0913 - public, by keyword
    model: Packable | nn.Module,
    path: str | os.PathLike[str],
    *,
    heads: Mapping[str, nn.Linear] | None = None,
    infos: Mapping[str, TaskInfo] | None = None,
    dtype: Precision | None = None,
    figures: Mapping[str, TaskFigures] | None = None,
    history: Sequence[Mapping[str, Any]] = (),
    recipe: Mapping[str, Any] | None = None,
    statistics: Mapping[str, FeatureStatistics] | None = None,
) -> PackedFile:
    """Writes the network with all its tasks to one file, which is replaced as a whole.

    Free weights are not written: they are zero in the network that is read back. A sharded network is gathered layer
    by layer, and every process must call it alike: the first one writes, and the others read what it wrote. What is
    packed waits in an unnamed file beside ``path``, which needs room for both.

    Args:
        model: Has ``backbone``, ``heads`` and ``packnet``, as a TaskClassifier does. Where tasks share nothing, it is
            a :class:`NetworkPerTask` too: what the backbone has now is not written.
            Or any module with a ``packnet``, each of whose tasks has one private module, its output layer: the
            logits of the file are those of that layer on the features of the shared part, and it is read with
            ``load_packed(path, backbone=...)`` where no builder of this package made the shared part.
        path: Where to; the ending ``.safetensors`` is usual.
        heads: Only for such a module: task -> its output layer, where that is not clear.
        infos: Likewise: task -> what is known of it beside the number of classes.
        dtype: Of the weights that tasks own. None keeps what they are; "bf16" and "fp16" halve the file, and change
            its logits: ``packnet-export --format packed`` measures by how much. They are read back in the
            type that they have now. Heads, biases and norms are kept as they are.
        figures: Task -> ratio and accuracy, as far as known.
        history: What was measured of the tasks, for a run that goes on from the file: JSON takes it.
        recipe: With what settings they were learned, likewise.
        statistics: Task -> statistics of the features that the first task's network has for its images, for as many
            tasks as wanted: :meth:`PackedNetwork.which_task` knows them by it.

    Returns:
        What was written, as :func:`packnet_pl.container.open_packed` reads it: counts of owners, sizes, tasks.

    Raises:
        RuntimeError: If a finished task's weights were changed from outside.
        ValueError: If something of the model is missing, or a task has more of its own than an output layer; if there
            is no task, one is not finished, a layer has extra state that is no tensor, a weight is too large for
            ``dtype``, a head is not finite, backbone and heads are of several types of numbers, or the model's networks
            are not those of all its tasks; if there are statistics of a task that it has not.
    """
    if dtype is not None and dtype not in get_args(Precision):
        raise ValueError(f"dtype is {dtype!r}; allowed are None and {list(get_args(Precision))}")
    parts = parts_of(model, path, heads, infos)
    check_packable(parts, path, dtype)
    is_sharded = parts.packnet is not None and parts.packnet.inventory().processes is not None
    keeps = not is_sharded or rank_and_world_size()[0] == 0
    tensors: MutableMapping[str, Tensor] = Spool(path) if is_sharded and keeps else {}
    header: dict[str, Any] = {
        "backbone": getattr(parts.backbone, "builder", None),
        "tasks": [
            {"name": task, **info.dump(), **asdict((figures or {}).get(task, TaskFigures()))}
            for task, info in parts.heads.infos.items()
        ],
        "packnet": None,
        "parameters": sum(parameter.numel() for parameter in parts.backbone.parameters()),
        "weights": {},
        "aliases": {},
        "history": list(history),
        "recipe": None if recipe is None else dict(recipe),
    }
    owners: dict[str, Tensor] = {}
    masks: Mapping[str, Mapping[str, Tensor]] = {}
    if parts.packnet is not None:
        state = parts.packnet.state_dict(model if isinstance(model, nn.Module) else None)
        owners = state.pop("owners")
        masks = state.pop("masks", {})
        for number, copies in enumerate(state.pop("copies").values()):
            tensors.update({f"copies/{number}/{name}": _plain(value) for name, value in copies.items()})
        header["packnet"] = state if parts is model else {**state, **private_as_heads(parts.heads, state)}
    networks = networks_of(parts)
    for name, tensor in _distinct(parts.backbone, owners, header["aliases"]):
        if networks:
            own = enumerate(networks.values())
            tensors.update({f"copies/{number}/{name}": _plain(network[name]) for number, network in own})
        elif name in owners:
            owner = _contiguous(owners[name])
            _pack_layer(name, _contiguous(tensor), owner, dtype, header, tensors)
            if masks:
                _pack_masks(name, owner, masks, header, tensors)
        else:
            tensors[f"shared/{name}"] = _plain(tensor)
        if not keeps:
            tensors.clear()
    for number, task in enumerate(parts.heads.infos):
        tensors.update({f"heads/{number}/{name}": _plain(v) for name, v in parts.heads[task].state_dict().items()})
    tensors.update(_statistics(statistics or {}, list(parts.heads.infos), path))
    return _written_by_first(path, header, tensors) if is_sharded else write_packed(path, header, tensors)


def _written_by_first(
    path: str | os.PathLike[str], header: Mapping[str, Any], tensors: Mapping[str, Tensor]
) -> PackedFile:
    written = write_packed(path, header, tensors) if rank_and_world_size()[0] == 0 else None
    wait_for_all()
    return written or open_packed(path)


def _statistics(statistics: Mapping[str, FeatureStatistics], tasks: list[str], path: object) -> dict[str, Tensor]:
    """Returns the tensors of statistics under their names in the file."""
    if unknown := [task for task in statistics if task not in tasks]:
        raise ValueError(f"cannot save {path}: statistics were given of {unknown}, and its tasks are {tasks}")
    return {
        f"which/{tasks.index(task)}/{part}": _plain(tensor)
        for task, of_task in statistics.items()
        for part, tensor in of_task.tensors().items()
    }


def _distinct(
    backbone: nn.Module, owners: Mapping[str, Tensor], aliases: dict[str, str]
) -> Iterator[tuple[str, Tensor]]:
    """Yields each tensor of ``backbone`` under one name; ``aliases`` gets the other names of the same memory."""
    first: dict[object, str] = {}
    state = {plain_name(name): value for name, value in backbone.state_dict(keep_vars=True).items()}
    # Owned ones first: of two names for the same memory, theirs is the one that the owners have.
    for name in sorted(state, key=lambda name: name not in owners):
        if (known := first.setdefault(_memory(state[name]), name)) != name:
            aliases[name] = known
        else:
            yield name, state[name]


def _memory(tensor: Tensor) -> object:
    """Returns what names of one tensor have in common: of a sharded one, of which a process may have no row, itself."""
    return id(tensor) if is_shard(tensor) else identity(tensor)


def _pack_layer(
    name: str,
    weight: Tensor,
    owner: Tensor,
    dtype: Precision | None,
    header: dict[str, Any],
    tensors: MutableMapping[str, Tensor],
) -> None:
    """Adds one weight tensor to header and tensors: the values that are owned, and the coded owners."""
    counts = count_owners(owner, len(header["tasks"]))
    values, coded = pack_weights(weight, owner, counts)
    if dtype is not None:
        values = _rounded(values, dtype, name)
        state, read = header["packnet"], weight.to(values.dtype).to(weight.dtype)
        found = owned_fingerprints({name: read}, {name: owner}, len(state["tasks"]))
        for task, of_task in zip(state["tasks"], found, strict=True):
            if task in state["fingerprints"]:
                state["fingerprints"][task] |= of_task
    layer = {"shape": list(weight.shape), "dtype": str(weight.dtype).removeprefix("torch."), "counts": counts}
    header["weights"][name] = layer
    tensors[f"values/{name}"], tensors[f"owners/{name}"] = values, coded


def _pack_masks(
    name: str,
    owner: Tensor,
    masks: Mapping[str, Mapping[str, Tensor]],
    header: dict[str, Any],
    tensors: MutableMapping[str, Tensor],
) -> None:
    """Adds what tasks do not use of one weight tensor: how many weights, and which."""
    found = [masks.get(task["name"], {}).get(name) for task in header["tasks"]]
    packed = [pack_mask(whole_of(mask)) if mask is not None and is_shard(mask) else mask for mask in found]
    unused = [0 if mask is None else int(unpack_mask(mask, owner.shape).sum()) for mask in packed]
    header["weights"][name]["unused"] = unused
    for index, (mask, count) in enumerate(zip(packed, unused, strict=True)):
        if mask is not None and count:
            tensors[f"masks/{index}/{name}"] = code_mask(mask, owner, index + 1, count)


def _contiguous(tensor: Tensor) -> Tensor:
    """Returns the same values on the CPU in row-major order; in the same memory if they are there, and not sharded."""
    return whole_of(tensor).detach().cpu().contiguous()


def _plain(tensor: Tensor) -> Tensor:
    """Returns a contiguous copy: safetensors refuses tensors that share memory."""
    return whole_of(tensor).detach().cpu().clone(memory_format=torch.contiguous_format)


def _rounded(values: Tensor, dtype: Precision, name: str) -> Tensor:
    rounded = values.to(_TYPES[dtype])
    if not is_finite(rounded):
        raise ValueError(f"{name} has weights up to {float(values.abs().max()):g}, too large for {dtype}; choose bf16")
    return rounded
