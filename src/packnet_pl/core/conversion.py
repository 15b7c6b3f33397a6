"""Converts a new module, which is in single precision, to the types of the tensors to be loaded."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

__all__ = ["take_types_"]


def take_types_(module: nn.Module, state: Mapping[str, Any]) -> None:
    """Converts floating-point parameters and buffers of ``module`` to the types that they have in ``state``.

    Without it ``load_state_dict`` would convert what is loaded, and finished tasks would not be what they were.

    Args:
        module: Is to load ``state``.
        state: A state dict; names that the module does not know are passed over.
    """
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        wanted = state.get(name)
        if isinstance(wanted, Tensor) and wanted.is_floating_point() and tensor.is_floating_point():
            tensor.data = tensor.data.to(wanted.dtype)
