"""Layers that learn statistics in the forward pass, such as norms, and eval mode, which prevents it."""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.utils import parametrizations
from torch.utils.hooks import RemovableHandle

__all__ = ["EvalMode", "in_eval_mode", "is_bias", "is_norm", "is_observer", "is_torch_norm", "layers_with_statistics"]

_NORMS = (_NormBase, nn.GroupNorm, nn.LayerNorm, nn.RMSNorm)


def is_norm(layer: nn.Module) -> bool:
    """Returns whether ``layer`` normalises: one of torch's norms, or a class with "norm" in its name, as timm's."""
    return is_torch_norm(layer) or "norm" in type(layer).__name__.lower()


def is_torch_norm(layer: nn.Module) -> bool:
    """Returns whether ``layer`` is one of torch's norms, or a subclass."""
    return isinstance(layer, _NORMS)


def is_bias(key: str) -> bool:
    """Returns whether a parameter called ``key`` in its module is a bias: "bias", "in_proj_bias", "bias_hh_l0"."""
    return re.search(r"(^|_)bias(_|$)", key) is not None


def is_observer(layer: nn.Module) -> bool:
    """Returns whether ``layer`` observes ranges for quantization: it writes to its buffers in eval mode too."""
    names = [kind.__name__.lower() for kind in type(layer).__mro__]
    return any("observer" in name or "fakequant" in name for name in names)


def layers_with_statistics(module: nn.Module) -> list[nn.Module]:
    """Returns the layers in ``module`` that update buffers in each forward pass in training mode, and not in eval mode.

    These are torch's norms with running statistics, others that call their buffers ``running_...``, and spectral norm.
    """
    return [
        layer
        for layer in module.modules()
        if isinstance(layer, parametrizations._SpectralNorm)
        or any(key.startswith("running_") and buffer is not None for key, buffer in layer._buffers.items())
    ]


class EvalMode:
    """Keeps layers in eval mode, whatever ``train()`` sets: they return to it before each forward pass.

    Attributes:
        layers: Those that are kept in it now.
    """

    def __init__(self) -> None:
        self.layers: list[nn.Module] = []
        self._handles: list[RemovableHandle] = []

    def keep(self, layers: Iterable[nn.Module]) -> None:
        """Keeps exactly ``layers`` in eval mode from now on."""
        self.end()
        self.layers = list(layers)
        for layer in self.layers:
            layer.eval()
            if not isinstance(layer, torch.jit.ScriptModule):  # takes no hooks; its buffers are restored all the same
                self._handles.append(layer.register_forward_pre_hook(_to_eval_mode))

    def end(self) -> None:
        """Lets ``train()`` set all of them again."""
        for handle in self._handles:
            handle.remove()
        self.layers, self._handles = [], []


@contextmanager
def in_eval_mode(layers: Iterable[nn.Module]) -> Iterator[None]:
    """Puts ``layers`` in eval mode for a while, and restores the mode of each."""
    modes = [(layer, layer.training) for layer in layers]
    try:
        for layer, _ in modes:
            layer.training = False
        yield
    finally:
        for layer, mode in modes:
            layer.training = mode


# A plain function of the module, no closure: a model that carries it can still be copied and pickled.
def _to_eval_mode(layer: nn.Module, _args: tuple[object, ...]) -> None:
    if layer.training:
        layer.eval()
