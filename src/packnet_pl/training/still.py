"""Modules that stand still during a fit, whole or in part."""

from collections.abc import Iterable

from torch import nn

__all__ = ["Still"]


class Still:
    """Takes gradients and training mode away from modules, and gives both back as they were."""

    def __init__(self) -> None:
        self._gradients: dict[nn.Parameter, bool] = {}
        self._modes: dict[nn.Module, bool] = {}

    def begin(self, modules: Iterable[nn.Module]) -> None:
        """Stops the gradients of the modules' own parameters, and puts the modules into eval mode.

        Args:
            modules: Each for itself: for a whole network its ``modules()``.
        """
        for module in modules:
            self._modes.setdefault(module, module.training)
            module.training = False
            for parameter in module.parameters(recurse=False):
                self._gradients.setdefault(parameter, parameter.requires_grad)
                parameter.requires_grad_(False)

    def end(self) -> None:
        """Gives back what :meth:`begin` took: torch chooses kernels by it, and answers must keep their bits."""
        for parameter, requires_grad in self._gradients.items():
            parameter.requires_grad_(requires_grad)
        for module, mode in self._modes.items():
            module.training = mode
        self._gradients, self._modes = {}, {}
