"""The parts of a module that are packed: the shared module, one output layer per task, the owners of the weights."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, Protocol, runtime_checkable

from torch import Tensor, nn

from packnet_pl.core import PackNet
from packnet_pl.models import Heads, TaskInfo

__all__ = ["NetworkPerTask", "Packable", "networks_of", "parts_of", "private_as_heads"]


class Packable(Protocol):
    """A module that can be packed: a TaskClassifier, or anything with these three."""

    backbone: nn.Module
    heads: Heads
    packnet: PackNet | None


@runtime_checkable
class NetworkPerTask(Protocol):
    """A :class:`Packable` whose tasks share nothing.

    Attributes:
        networks: Finished task -> state dict of a backbone of its own.
    """

    networks: dict[str, dict[str, Tensor]]


@dataclass
class _Parts:
    backbone: nn.Module
    heads: Heads
    packnet: PackNet | None


def parts_of(
    model: Any, path: object, heads: Mapping[str, nn.Linear] | None, infos: Mapping[str, TaskInfo] | None
) -> Packable:
    """Returns the parts of a user's own module; ``model`` itself if it has them as a TaskClassifier has.

    Args:
        model: Has a PackNet as ``packnet``, whose module is the shared part.
        path: Where it is to be saved, for messages.
        heads: Task -> its output layer; None takes the one private module of each task.
        infos: Task -> what is known of it, for as many tasks as wanted.

    Raises:
        ValueError: If something is missing, or a task has more of its own than an output layer.
    """
    if isinstance(getattr(model, "heads", None), Heads):
        if heads is not None or infos is not None:
            raise ValueError(f"heads= and infos= were given, and {type(model).__name__} has its own: leave them out")
        whole: Packable = model
        return whole
    name, packnet = type(model).__name__, getattr(model, "packnet", None)
    if not isinstance(packnet, PackNet) or not isinstance(model, nn.Module):
        raise ValueError(
            f"cannot save {path}: {name} is no module with a PackNet as its attribute packnet (it is {packnet!r}): "
            "save the module whose tasks were fitted"
        )
    if packnet.open_task is not None:
        raise ValueError(
            f"cannot save {path}: tasks {[packnet.open_task]} are not finished; fit them to their end first"
        )
    for given in (heads or {}).keys() | (infos or {}).keys():
        if given not in packnet.tasks:
            raise ValueError(f"cannot save {path}: task {given!r} was given, and finished are {packnet.tasks}")
    parts = {task: _head(model, packnet, path, task, heads) for task in packnet.tasks}
    features = {head.in_features for head in parts.values()}
    if len(features) > 1 and not packnet.state.shapes:
        raise ValueError(f"cannot save {path}: the heads take {sorted(features)} features; the file holds one number")
    taken = Heads(max(features, default=0))
    for task, head in parts.items():
        taken.put(task, (infos or {}).get(task) or TaskInfo(head.out_features), head)
    _warn_of_rest(model, packnet, parts)
    return _Parts(packnet.module, taken, packnet)


def networks_of(parts: Packable) -> Mapping[str, Mapping[str, Tensor]]:
    """Returns task -> tensors of its own whole backbone; nothing where tasks share one."""
    return parts.networks if isinstance(parts, NetworkPerTask) else {}


def private_as_heads(heads: Heads, state: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the entries "private" and "private_fingerprints" of a state of PackNet under the names of ``heads``."""
    names = {task: f"heads.{heads.key(task)}" for task in state["private"]}
    return {
        "private": {task: [names[task]] if own else [] for task, own in state["private"].items()},
        "private_fingerprints": {
            task: {f"{names[task]}.{key.rpartition('.')[2]}": value for key, value in fingerprints.items()}
            for task, fingerprints in state["private_fingerprints"].items()
        },
    }


def _head(
    model: nn.Module, packnet: PackNet, path: object, task: str, heads: Mapping[str, nn.Linear] | None
) -> nn.Linear:
    names = packnet.private.get(task, [])
    own = [model.get_submodule(name) for name in names]
    head = heads.get(task) if heads is not None else own[0] if len(own) == 1 else None
    inside = {id(tensor) for tensor in head.state_dict(keep_vars=True).values()} if head is not None else set()
    more = [name for name, module in zip(names, own, strict=True) if _ids(module) - inside]
    if type(head) is not nn.Linear or head.bias is None or more:
        found = ", ".join(f"{name}: {type(module).__name__}" for name, module in zip(names, own, strict=True))
        raise ValueError(
            f"cannot save {path}: of task {task!r} it holds one nn.Linear with a bias, from the features of the shared "
            f"{type(packnet.module).__name__} to classes, and nothing else of its own; its own are [{found}], and "
            f"{'none' if head is None else type(head).__name__} was taken (heads={{{task!r}: ...}} names another)"
        )
    return head


def _warn_of_rest(model: nn.Module, packnet: PackNet, heads: Mapping[str, nn.Module]) -> None:
    known = {id(value) for module in [packnet.module, *heads.values()] for _, value in _tensors(module)}
    rest = [name for name, value in _tensors(model) if id(value) not in known]
    if heads and rest:
        more = f" and {len(rest) - 1} tensors more" if len(rest) > 1 else ""
        warnings.warn(
            f"the packed file answers with the head on the shared {type(packnet.module).__name__}; it has no "
            f"{rest[0]}{more} of {type(model).__name__}: a finished task that computes with that is answered otherwise",
            stacklevel=4,
        )


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    # Not from its state dict, which has no buffers that are not persistent.
    return chain(module.named_parameters(), module.named_buffers())


def _ids(module: nn.Module) -> set[int]:
    return {id(value) for value in module.state_dict(keep_vars=True).values()}
