"""Modules that a method freezes for one fit, whole or in part."""

from collections.abc import Iterable

from torch import nn

from packnet_pl.core.gradients import RequiresGrad

__all__ = ["FrozenModules"]


class FrozenModules:
    """Turns gradients and training mode of modules off, and restores both."""

    def __init__(self) -> None:
        self._requires_grad = RequiresGrad()
        self._modes: dict[nn.Module, bool] = {}

    def freeze(self, modules: Iterable[nn.Module]) -> None:
        """Turns off the gradients of the modules' own parameters, and puts the modules into eval mode.

        Args:
            modules: Each for itself: for a whole network its ``modules()``.
        """
        for module in modules:
            self._modes.setdefault(module, module.training)
            module.training = False
            self._requires_grad.turn_off(module.parameters(recurse=False))

    def restore(self) -> None:
        """Restores what :meth:`freeze` turned off: torch chooses kernels by it, and logits must keep their bits."""
        self._requires_grad.restore()
        for module, mode in self._modes.items():
            module.training = mode
        self._modes = {}
