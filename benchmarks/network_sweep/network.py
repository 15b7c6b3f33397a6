"""A network that can be tried: built small, given random inputs, and built once more in its published size."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["Network", "NotTriedError", "on_images", "random_images", "tensors_of"]


class NotTriedError(Exception):
    """Raised for a network that cannot be tried; says why in one line."""


@dataclass(frozen=True)
class Network:
    """One network in the size that it is trained in here.

    Attributes:
        module: With random weights, on the CPU.
        call: Given the module and a seed, calls the module on random inputs that the seed decides, in the mode that the
            module is in.
        notes: What of the network this does not reach, in a few words.
    """

    module: nn.Module
    call: Callable[[nn.Module, int], Any]
    notes: tuple[str, ...] = field(default=())


def random_images(seed: int, *shape: int) -> Tensor:
    """Returns normally distributed values of ``shape`` that ``seed`` decides."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def on_images(module: nn.Module, seed: int, *, shape: tuple[int, ...]) -> Any:
    """Returns what ``module`` makes of a random batch of ``shape``."""
    return module(random_images(seed, *shape))


def tensors_of(outputs: Any) -> list[Tensor]:
    """Returns the tensors in what a network returned: in lists, tuples, mappings and objects with fields, in order."""
    if isinstance(outputs, Tensor):
        return [outputs]
    if isinstance(outputs, Mapping):
        return [tensor for value in outputs.values() for tensor in tensors_of(value)]
    if isinstance(outputs, (list, tuple)):
        return [tensor for value in outputs for tensor in tensors_of(value)]
    return [tensor for value in getattr(outputs, "__dict__", {}).values() for tensor in tensors_of(value)]
