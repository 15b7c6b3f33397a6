"""Networks of any size without memory for their weights: to count parameters, and by kind."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch
from torch import nn

__all__ = ["weightless"]


def weightless(make: Callable[[], nn.Module]) -> nn.Module:
    """Returns what ``make`` returns, with parameters on the meta device, where they have a shape and no values.

    Constructors that compute with tensors (RegNet's widths in torchvision, say) cannot do so on the meta device: of
    them only the parameters are put there, each as it is registered.
    """
    try:
        with torch.device("meta"):
            return make()
    except Exception:  # whatever else is wrong is raised again
        with _parameters_on_meta():
            return make()


@contextmanager
def _parameters_on_meta() -> Iterator[None]:
    register = nn.Module.register_parameter

    def registered(self: nn.Module, name: str, param: nn.Parameter | None) -> None:
        register(self, name, param)
        if param is not None:
            self._parameters[name] = nn.Parameter(param.detach().to("meta"), param.requires_grad)

    with patch.object(nn.Module, "register_parameter", registered):
        yield
