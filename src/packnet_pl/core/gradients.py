"""Gradients that are stopped for a while, because nothing will ask for them."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn

__all__ = ["StoppedGradients"]


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
