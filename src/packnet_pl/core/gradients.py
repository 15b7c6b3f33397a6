"""Gradients: whether there is one, and stopping those that nothing will ask for."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from packnet_pl.core.bits import parts

__all__ = ["StoppedGradients", "has_gradient"]


class StoppedGradients:
    """Parameters whose ``requires_grad`` was set to False, and what it was."""

    def __init__(self) -> None:
        self._before: dict[nn.Parameter, bool] = {}

    def stop(self, parameters: Iterable[nn.Parameter]) -> None:
        """Stops the gradients of ``parameters``, until :meth:`give_back`."""
        for parameter in parameters:
            self._before.setdefault(parameter, parameter.requires_grad)
            parameter.requires_grad_(False)

    def give_back(self) -> None:
        """Gives all back what they had."""
        self._restore()
        self._before = {}

    @contextmanager
    def given_back(self) -> Iterator[None]:
        """Gives all back what they had, for a while."""
        self._restore()
        try:
            yield
        finally:
            for parameter in self._before:
                parameter.requires_grad_(False)

    def _restore(self) -> None:
        for parameter, requires_grad in self._before.items():
            parameter.requires_grad_(requires_grad)


def has_gradient(parameter: Tensor | None) -> bool:
    """Returns whether ``parameter`` has a gradient of which an entry is not zero."""
    if parameter is None or parameter.grad is None:
        return False
    return bool(parts(parameter.grad)[-1].count_nonzero())
