"""From a network with its tasks to the packed file."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from packnet_pl.core import PackNet
from packnet_pl.core.bits import identity
from packnet_pl.core.fingerprints import fingerprint
from packnet_pl.core.inventory import plain_name
from packnet_pl.core.ownership import count_owners
from packnet_pl.models import TaskInfo
from packnet_pl.packed.file import write_packed
from packnet_pl.packed.parts import NetworkPerTask, Packable, parts_of, private_as_heads
from packnet_pl.packed.weights import pack_weights

__all__ = ["Packable", "Precision", "TaskFigures", "save_packed"]

Precision = Literal["fp32", "bf16", "fp16"]
_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class TaskFigures:
    """What a file tells of a task beside what its head wants to know.

    Attributes:
        ratio: Share of its weights that it released, in [0, 1), or None.
        accuracy: Top-1 on its test split when it was finished, in [0, 1], or None.
    """

    ratio: float | None = None
    accuracy: float | None = None


def save_packed(
    model: Packable | nn.Module,
    path: str | os.PathLike[str],
    *,
    heads: Mapping[str, nn.Linear] | None = None,
    infos: Mapping[str, TaskInfo] | None = None,
    dtype: Precision | None = None,
    figures: Mapping[str, TaskFigures] | None = None,
    history: Sequence[Mapping[str, Any]] = (),
    recipe: Mapping[str, Any] | None = None,
) -> None:
    """Writes the network with all its tasks to one file, which is replaced as a whole.

    Free weights are not written: they are zero in the network that is read back.

    Args:
        model: Has ``backbone``, ``heads`` and ``packnet``, as a TaskClassifier does. Where tasks share nothing, it is
            a :class:`NetworkPerTask` too: what the backbone has now is not written.
            Or any module with a ``packnet``, each of whose tasks has one private module, its output layer: the file
            answers with that layer on what the shared part gives, and is read with ``load_packed(path, backbone=...)``
            where no builder of this package made the shared part.
        path: Where to; the ending ``.safetensors`` is usual.
        heads: Only for such a module: task -> its output layer, where that is not clear.
        infos: Likewise: task -> what is known of it beside the number of classes.
        dtype: Of the weights that tasks own. None keeps what they are; "bf16" and "fp16" halve the file, and change
            what the network answers: ``packnet-export --format packed`` measures by how much. They are read back in the
            type that they have now. Heads, biases and norms are kept as they are.
        figures: Task -> ratio and accuracy, as far as known.
        history: What was measured of the tasks, for whoever goes on from the file: JSON takes it.
        recipe: With what settings they were learned, likewise.

    Raises:
        RuntimeError: If a finished task's weights were changed from outside.
        ValueError: If something of the model is missing, or a task has more of its own than an output layer; if there
            is no task, one is not finished, a layer has extra state that is no tensor, a weight is too large for
            ``dtype``, a head is not finite, backbone and heads are of several types of numbers, or the model's networks
            are not those of all its tasks.
    """
    if dtype is not None and dtype not in get_args(Precision):
        raise ValueError(f"dtype is {dtype!r}; allowed are None and {list(get_args(Precision))}")
    parts = parts_of(model, path, heads, infos)
    _check(parts, path, dtype)
    packnet = parts.packnet
    networks: Mapping[str, Mapping[str, Tensor]] = parts.networks if isinstance(parts, NetworkPerTask) else {}
    if networks and (packnet is not None or list(networks) != list(parts.heads.infos)):
        raise ValueError(
            f"cannot save {path}: its networks are of {list(networks)}, and its heads of {list(parts.heads.infos)}; it "
            "needs one for each task, in the same order, and no weights that tasks share (packnet is None)"
        )
    tensors: dict[str, Tensor] = {}
    header: dict[str, Any] = {
        "backbone": getattr(parts.backbone, "builder", None),
        "tasks": [
            {"name": task, **info.dump(), **asdict((figures or {}).get(task, TaskFigures()))}
            for task, info in parts.heads.infos.items()
        ],
        "packnet": None,
        "weights": {},
        "aliases": {},
        "history": list(history),
        "recipe": None if recipe is None else dict(recipe),
    }
    owners: dict[str, Tensor] = {}
    if packnet is not None:
        state = packnet.state_dict(model if isinstance(model, nn.Module) else None)
        owners = {name: _plain(owner) for name, owner in state.pop("owners").items()}
        for number, copies in enumerate(state.pop("copies").values()):
            tensors |= {f"copies/{number}/{name}": _plain(value) for name, value in copies.items()}
        _check_loads(parts, owners, state, path)
        header["packnet"] = state if parts is model else {**state, **private_as_heads(parts.heads, state)}
    first: dict[object, str] = {}
    shared = {plain_name(name): value for name, value in parts.backbone.state_dict().items()}
    # Owned ones first: of two names for the same memory, theirs is the one that the owners have.
    for name in sorted(shared, key=lambda name: name not in owners):
        if (known := first.setdefault(identity(shared[name]), name)) != name:
            header["aliases"][name] = known
            continue
        if networks:
            for number, network in enumerate(networks.values()):
                tensors[f"copies/{number}/{name}"] = _plain(network[name])
            continue
        if name not in owners:
            tensors[f"shared/{name}"] = _plain(shared[name])
            continue
        weight = _plain(shared[name])
        counts = count_owners(owners[name], len(parts.heads.infos))
        values, coded = pack_weights(weight, owners[name], counts)
        if dtype is not None:
            values = _rounded(values, dtype, name)
            for task, marks in header["packnet"]["fingerprints"].items():
                number = header["packnet"]["tasks"].index(task) + 1
                own = owners[name].reshape(-1)
                marks[name] = fingerprint(values.to(weight.dtype)[own[own != 0] == number])
        layer = {"shape": list(weight.shape), "dtype": str(weight.dtype).removeprefix("torch."), "counts": counts}
        header["weights"][name] = layer
        tensors[f"values/{name}"], tensors[f"owners/{name}"] = values, coded
    for number, task in enumerate(parts.heads.infos):
        tensors |= {f"heads/{number}/{name}": _plain(v) for name, v in parts.heads[task].state_dict().items()}
    write_packed(path, header, tensors)


def _check(model: Packable, path: str | os.PathLike[str], dtype: Precision | None) -> None:
    packnet, tasks = model.packnet, list(model.heads.infos)
    if not tasks:
        raise ValueError(f"cannot save {path}: there is no task yet; fit one first")
    unfinished = [task for task in tasks if packnet is not None and task not in packnet.tasks]
    if packnet is not None and packnet.open_task is not None and packnet.open_task not in unfinished:
        unfinished.append(packnet.open_task)
    if unfinished:
        raise ValueError(f"cannot save {path}: tasks {unfinished} are not finished; fit them to their end first")
    if packnet is not None and packnet.tasks != tasks:
        raise ValueError(f"cannot save {path}: heads are of the tasks {tasks}, and weights of {packnet.tasks}")
    if packnet is None and dtype is not None:
        raise ValueError(f"cannot save {path} as {dtype}: no task owns any weights; convert the network instead")
    extra = [name for name, value in model.backbone.state_dict().items() if not isinstance(value, Tensor)]
    if extra:
        raise ValueError(
            f"cannot save {path}: {extra[0]} is extra state of a layer and no tensor, which the file cannot hold"
        )
    # Loaded, the network would have to answer in the type that its heads take.
    tensors = [*model.backbone.state_dict().values(), *model.heads.state_dict().values()]
    types = {str(tensor.dtype).removeprefix("torch.") for tensor in tensors if tensor.is_floating_point()}
    if len(types) > 1 and getattr(model.backbone, "builder", None) is not None:
        raise ValueError(
            f"cannot save {path}: its tensors are {' and '.join(sorted(types))}; convert backbone and heads to one type"
        )


def _check_loads(parts: Packable, owners: Mapping[str, Tensor], state: Mapping[str, Any], path: object) -> None:
    loaded = PackNet(parts.backbone, norm=state["norm"], bias=state["bias"]).owners
    if other := sorted(loaded.keys() ^ owners.keys()):
        raise ValueError(
            f"cannot save {path}: its PackNet was made with prunable=..., and load_packed makes one without: it would "
            f"not agree on who may own {other[0]}"
        )


def _plain(tensor: Tensor) -> Tensor:
    """Returns a copy of its own: safetensors refuses tensors that share memory."""
    return tensor.detach().cpu().clone(memory_format=torch.contiguous_format)


def _rounded(values: Tensor, dtype: Precision, name: str) -> Tensor:
    rounded = values.to(_TYPES[dtype])
    if not bool(torch.isfinite(rounded).all()):
        raise ValueError(f"{name} has weights up to {float(values.abs().max()):g}, too large for {dtype}; choose bf16")
    return rounded
