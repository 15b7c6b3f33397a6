"""Tests and densifies gradients, and turns ``requires_grad`` off for a while."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from packnet_pl.core.bits import parts
from packnet_pl.core.shards import own_part

__all__ = ["RequiresGrad", "dense", "has_gradient"]


class RequiresGrad:
    """Turns ``requires_grad`` off for some parameters, and restores what it was."""

    def __init__(self) -> None:
        self._before: dict[nn.Parameter, bool] = {}

    def turn_off(self, parameters: Iterable[nn.Parameter]) -> None:
        """Turns ``requires_grad`` off for ``parameters`` too, until :meth:`restore`."""
        for parameter in parameters:
            self._before.setdefault(parameter, parameter.requires_grad)
            parameter.requires_grad_(False)

    def was(self, tensor: Tensor) -> bool:
        """Returns the ``requires_grad`` that ``tensor`` has, or had before it was turned off."""
        turned_off = isinstance(tensor, nn.Parameter) and self._before.get(tensor)
        return bool(turned_off) or tensor.requires_grad

    def restore(self) -> None:
        """Restores the ``requires_grad`` of every parameter."""
        self._restore()
        self._before = {}

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Restores the ``requires_grad`` of every parameter, for a while.

        torch chooses kernels by it, also without a graph, and other kernels round otherwise.
        """
        self._restore()
        try:
            yield
        finally:
            for parameter in self._before:
                parameter.requires_grad_(False)

    def _restore(self) -> None:
        for parameter, requires_grad in self._before.items():
            parameter.requires_grad_(requires_grad)


def dense(gradient: Tensor) -> Tensor:
    """Returns ``gradient`` with all its entries, also where it is sparse."""
    return gradient if gradient.layout == torch.strided else gradient.to_dense()


def has_gradient(parameter: Tensor | None) -> bool:
    """Returns whether ``parameter`` has a gradient of which an entry is not zero, in this process's rows."""
    if parameter is None or parameter.grad is None:
        return False
    return bool(parts(own_part(parameter.grad))[-1].count_nonzero())
