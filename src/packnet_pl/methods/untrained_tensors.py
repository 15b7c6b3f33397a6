"""What a fit does not train, which averages of weights would round all the same."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["UntrainedTensors"]


class UntrainedTensors:
    """The values that a module's untrained tensors have when a fit begins.

    These are parameters that need no gradient, and buffers of modules in eval mode: heads of other tasks, and what a
    method freezes.

    Args:
        module: Ready to be trained.
    """

    def __init__(self, module: nn.Module) -> None:
        self._values = {name: tensor.detach().clone() for name, tensor in _untrained(module)}

    @torch.no_grad()
    def restore_(self, module: nn.Module) -> None:
        """Writes the values into the module."""
        for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
            if name in self._values:
                tensor.copy_(self._values[name])

    def freeze_in_(self, state_dict: dict[str, Any]) -> None:
        """Replaces the entries of the module's state dict by the values; what it does not have is left out."""
        state_dict.update({name: value for name, value in self._values.items() if name in state_dict})


def _untrained(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from ((name, parameter) for name, parameter in module.named_parameters() if not parameter.requires_grad)
    for path, layer in module.named_modules():
        if not layer.training:
            yield from layer.named_buffers(prefix=path, recurse=False)
