"""Finds tensors that a module has without registering them, unknown to its checkpoints and to PackNet."""

from collections.abc import Iterable, Iterator
from typing import Any

from torch import Tensor, nn

__all__ = ["unregistered"]


def unregistered(root: nn.Module, tensors: Iterable[Tensor]) -> list[str]:
    """Returns the names of ``tensors`` that are in plain attributes of ``root``'s modules.

    Such are a tensor that is no parameter, and what is in a list, tuple or dict instead of an ``nn.ModuleList`` or
    ``nn.ModuleDict``. What is reachable in no such way, as the copies that some optimizers step, is left out.
    """
    wanted = {id(tensor) for tensor in tensors} - {id(parameter) for parameter in root.parameters()}
    if not wanted:
        return []
    names = {
        id(tensor): name
        for prefix, layer in root.named_modules()
        for key, value in vars(layer).items()
        for name, tensor in _reach(value, f"{prefix}.{key}" if prefix else key, depth=3)
        if id(tensor) in wanted
    }
    return list(names.values())


def _reach(value: Any, name: str, depth: int) -> Iterator[tuple[str, Tensor]]:
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, nn.Module):
        yield from ((f"{name}.{key}", parameter) for key, parameter in value.named_parameters())
    elif depth and isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from _reach(item, f"{name}[{index}]", depth - 1)
    elif depth and isinstance(value, dict):
        for key, item in value.items():
            yield from _reach(item, f"{name}[{key!r}]", depth - 1)
