"""Holding still what must not move while a task trains: gradients masked before the step, values restored after it.

Masking gradients alone is not enough: momentum left over from earlier steps and weight decay move a weight whose
gradient is zero, and batch-norm's running statistics move in every forward pass.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

__all__ = ["Hold", "in_eval_mode", "keep_in_eval_mode", "norms_with_statistics", "zeroed"]

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}

_NORMS = (
    nn.BatchNorm1d,
    nn.BatchNorm2d,
    nn.BatchNorm3d,
    nn.SyncBatchNorm,
    nn.InstanceNorm1d,
    nn.InstanceNorm2d,
    nn.InstanceNorm3d,
)


class Hold:
    """The values that must stay, taken when it is made, and the two operations that keep them.

    Both work on the bits of the numbers: an integer AND is exact (a multiplication turns inf * 0 into NaN), runs at
    memory speed on every device (``masked_fill_`` does not on CPU), and takes any memory layout. Restoring is
    ``bits = (bits & trainable) | kept``.

    Args:
        weights: Name -> weight of which single entries may move.
        trainable: Name -> bool of the same shape: the entries that may move.
        fixed: Name -> tensor that may not move at all.
    """

    def __init__(
        self, weights: Mapping[str, Tensor], trainable: Mapping[str, Tensor], fixed: Mapping[str, Tensor]
    ) -> None:
        self._masks: dict[str, Tensor] = {}
        self._kept: dict[str, Tensor] = {}
        for name, weight in weights.items():
            if bool(trainable[name].all()):
                continue
            bits = _bits(weight)
            mask = torch.zeros_like(bits).masked_fill_(trainable[name], -1)
            self._masks[name] = mask
            self._kept[name] = bits & ~mask
        self._values = {name: tensor.detach().clone() for name, tensor in fixed.items()}
        self._dtypes = {name: tensor.dtype for name, tensor in {**weights, **fixed}.items()}
        self.bind(weights, fixed)

    def bind(self, weights: Mapping[str, Tensor], fixed: Mapping[str, Tensor]) -> None:
        """Takes the tensors to hold, by name: those a module has now, where they were replaced or moved.

        Raises:
            RuntimeError: If one was converted to another type: the bits held are not those of its values.
        """
        self._weights = {name: weights[name] for name in self._masks}
        self._fixed = {name: fixed[name] for name in self._values}
        for name, tensor in {**self._weights, **self._fixed}.items():
            if tensor.dtype != self._dtypes[name]:
                raise RuntimeError(
                    f"{name} was converted from {self._dtypes[name]} to {tensor.dtype} while a task is open: "
                    "convert it back, or take the values as they are now with PackNet.hold()"
                )
        self._masks = {name: mask.to(self._weights[name].device) for name, mask in self._masks.items()}
        self._kept = {name: kept.to(self._weights[name].device) for name, kept in self._kept.items()}

    @torch.no_grad()
    def mask_gradients_(self) -> None:
        """Sets the gradients of everything held to exactly zero. Call it before ``optimizer.step()``."""
        for name, weight in self._weights.items():
            if weight.grad is not None:
                bits = _bits(weight.grad)
                bits.bitwise_and_(self._masks[name].to(bits))
        for tensor in self._fixed.values():
            if tensor.grad is not None:
                tensor.grad.zero_()

    @torch.no_grad()
    def restore_(self) -> None:
        """Puts everything held back to the bits it had. Call it after ``optimizer.step()``."""
        for name, weight in self._weights.items():
            bits = _bits(weight)
            bits.bitwise_and_(self._masks[name].to(bits)).bitwise_or_(self._kept[name].to(bits))
        for name, tensor in self._fixed.items():
            tensor.detach().copy_(self._values[name])


def norms_with_statistics(module: nn.Module) -> list[nn.Module]:
    """Returns the normalisation layers in ``module`` that keep running statistics."""
    return [
        layer
        for layer in module.modules()
        if isinstance(layer, _NORMS) and getattr(layer, "running_mean", None) is not None
    ]


def keep_in_eval_mode(layers: Iterable[nn.Module]) -> list[RemovableHandle]:
    """Puts ``layers`` in eval mode and makes them go back to it before each forward pass, whatever ``train()`` said.

    Returns:
        Handles whose ``remove()`` ends it.
    """
    handles = []
    for layer in layers:
        layer.eval()
        handles.append(layer.register_forward_pre_hook(_to_eval_mode))
    return handles


@contextmanager
def in_eval_mode(layers: Iterable[nn.Module]) -> Iterator[None]:
    """Puts ``layers`` in eval mode and gives each its own mode back at the end."""
    modes = [(layer, layer.training) for layer in layers]
    try:
        for layer, _ in modes:
            layer.training = False
        yield
    finally:
        for layer, mode in modes:
            layer.training = mode


@contextmanager
def zeroed(weights: Callable[[], Mapping[str, Tensor]], hidden: Mapping[str, Tensor]) -> Iterator[None]:
    """Makes the entries of weights where ``hidden`` is True zero, in place, and gives them back at the end.

    Args:
        weights: Returns name -> weight; asked again at the end, in case the weights were moved or replaced meanwhile.
        hidden: Name -> bool of the same shape.
    """
    found = weights()
    saved = {name: found[name].detach().clone() for name, mask in hidden.items() if bool(mask.any())}
    try:
        with torch.no_grad():
            for name in saved:
                found[name].detach().masked_fill_(hidden[name], 0)
        # Autocast keeps low-precision copies of weights, which would outlive the change.
        torch.clear_autocast_cache()
        yield
    finally:
        with torch.no_grad():
            found = weights()
            for name, values in saved.items():
                found[name].detach().copy_(values)
        torch.clear_autocast_cache()


# A plain function of the module, no closure: a model that carries it can still be copied and pickled.
def _to_eval_mode(layer: nn.Module, _args: tuple[object, ...]) -> None:
    if layer.training:
        layer.eval()


def _bits(tensor: Tensor) -> Tensor:
    """Returns the memory of ``tensor`` as integers of the same width, sharing storage."""
    return tensor.detach().view(_INTEGERS[tensor.element_size()])
