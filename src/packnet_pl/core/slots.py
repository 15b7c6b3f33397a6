"""Slots: where a module has its tensors. Tensors are converted, moved and replaced; their slots stay."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from packnet_pl.core.bits import identity, same_bits
from packnet_pl.core.shards import is_shard, own_part, why_not_rows

__all__ = [
    "Slot",
    "can_be_frozen",
    "conversion_error",
    "find_module",
    "has_other_values",
    "is_alike",
    "memory_of",
    "plain_name",
    "restore_slot_",
    "slots_of",
    "tensors_in",
    "wholes_in",
    "why_not_frozen",
]


@dataclass(frozen=True)
class Slot:
    """Where a tensor is in a module: its layer, and its key there.

    Attributes:
        layer: The module that has it.
        key: Name of the parameter or buffer in that module.
        is_parameter: Whether it is a parameter; else it is a buffer.
        is_saved: Whether a state dict has it.
        parametrized: The module whose tensor is computed from this one by a parametrization; None without.
    """

    layer: nn.Module
    key: str
    is_parameter: bool
    is_saved: bool
    parametrized: nn.Module | None = None

    @property
    def used_by(self) -> nn.Module:
        """The module that computes with the tensor: a parametrized one, or that which has it."""
        return self.parametrized or self.layer

    @property
    def table(self) -> Mapping[str, Tensor | None]:
        """The layer's parameters, or its buffers, as key -> tensor."""
        return self.layer._parameters if self.is_parameter else self.layer._buffers

    @property
    def held(self) -> Tensor | None:
        """What the slot has now, whole or sharded, as optimizers have it; None: layers may take a buffer away."""
        # As ``table``, without a call: steps look at each slot.
        table = self.layer._parameters if self.is_parameter else self.layer._buffers
        return table[self.key] if self.key in table else None  # noqa: SIM401 (a scripted module has no get)

    @property
    def found(self) -> Tensor | None:
        """The tensor that the slot has now, of a sharded one this process's part; None if it is empty."""
        tensor = self.held
        return None if tensor is None else own_part(tensor)

    @property
    def now(self) -> Tensor:
        """As :attr:`found`.

        Raises:
            RuntimeError: If it is empty.
        """
        return own_part(self.whole)

    @property
    def whole(self) -> Tensor:
        """As :attr:`held`.

        Raises:
            RuntimeError: If it is empty.
        """
        tensor = self.held
        if tensor is None:
            raise RuntimeError(f"{type(self.layer).__name__} has no {self.key!r} any more: it was removed")
        return tensor


def slots_of(module: nn.Module) -> Iterator[tuple[str, Slot]]:
    """Yields name and slot of every parameter, then of every buffer of ``module``; shared tensors come repeatedly."""
    users = _users_of_parametrizations(module)
    for prefix, layer in module.named_modules():
        user = users.get(layer)
        for key, tensor in layer._parameters.items():
            if tensor is not None:
                yield f"{prefix}.{key}" if prefix else key, Slot(layer, key, True, True, user)
    for prefix, layer in module.named_modules():
        for key, buffer in layer._buffers.items():
            if buffer is not None:
                saved = key not in layer._non_persistent_buffers_set
                yield f"{prefix}.{key}" if prefix else key, Slot(layer, key, is_parameter=False, is_saved=saved)


def _users_of_parametrizations(module: nn.Module) -> dict[nn.Module, nn.Module]:
    """Returns the list of parametrizations of each tensor -> the module that has that tensor."""
    # Asking the layer for what it has not is slow, and this is done often.
    having = (layer for layer in module.modules() if "parametrizations" in layer._modules)
    parametrized = [layer for layer in having if parametrize.is_parametrized(layer)]
    return {parts: layer for layer in parametrized for parts in layer.parametrizations.children()}  # type: ignore[union-attr]


def tensors_in(slots: Mapping[str, Slot]) -> dict[str, Tensor]:
    """Returns name -> the tensor that each slot has now, of sharded ones this process's part.

    Raises:
        RuntimeError: If a slot is empty.
    """
    return {name: slot.now for name, slot in slots.items()}


def wholes_in(slots: Mapping[str, Slot]) -> dict[str, Tensor]:
    """Returns name -> the tensor that each slot has now, whole or sharded.

    Raises:
        RuntimeError: If a slot is empty.
    """
    return {name: slot.whole for name, slot in slots.items()}


def find_module(root: nn.Module, name: str) -> nn.Module | None:
    """Returns the module of that name, also under its second name where it has two; None if there is none."""
    try:
        return root.get_submodule(name)
    except AttributeError:
        return None


def plain_name(name: str) -> str:
    """Returns ``name`` without the prefix that ``torch.compile`` adds."""
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def memory_of(tensor: Tensor) -> object:
    """Returns what tied tensors have in common, also those that are tied without being one object."""
    return id(tensor) if why_not_frozen(tensor) else identity(own_part(tensor))


def can_be_frozen(tensor: Tensor) -> bool:
    """Returns whether ``tensor`` is a plain one, whose values can be read and restored."""
    return why_not_frozen(tensor) is None


def why_not_frozen(tensor: Tensor) -> str | None:
    """Returns why the values of ``tensor`` cannot be read and restored; None if they can be."""
    if nn.parameter.is_lazy(tensor):
        return "it has no values yet (a lazy layer): run one batch through the network first"
    if is_shard(tensor):
        return why_not_rows(tensor)  # type: ignore[arg-type]
    if is_traceable_wrapper_subclass(tensor):
        return (
            f"it is a {type(tensor).__name__} (sharded or quantized): only plain tensors can be frozen entry by entry"
        )
    if tensor.is_quantized:
        return "it is quantized: only plain tensors can be frozen entry by entry"
    if tensor.device.type == "meta":
        return "it has no values (meta device): materialize the network first"
    return None


def restore_slot_(name: str, slot: Slot, value: Tensor) -> None:
    """Restores the bits of ``value`` in ``slot``, in place where that is possible.

    A buffer that no state dict has is left alone where it changed its shape or type: it is a cache of the layer's.

    Raises:
        RuntimeError: If a parameter has another shape or type now, or a buffer that a state dict has.
    """  # noqa: DOC501
    tensor = slot.found
    if not is_alike(tensor, value):
        if not slot.is_saved:
            return
        if tensor is not None:
            raise conversion_error(name, tensor, value.dtype, value.shape)
        if slot.is_parameter:
            raise RuntimeError(f"{name} was removed, but finished tasks use it: put it back")
    if tensor is None or (not slot.is_parameter and _must_be_replaced(tensor)):
        slot.layer._buffers[slot.key] = value.clone()
    else:
        tensor.copy_(value)


def is_alike(tensor: Tensor | None, value: Tensor) -> bool:
    """Returns whether ``tensor`` has the shape and type of ``value``."""
    return tensor is not None and (tensor.shape, tensor.dtype) == (value.shape, value.dtype)


def has_other_values(slot: Slot, value: Tensor) -> bool:
    """Returns whether the tensor in the slot has other values; a cache may have another shape."""
    tensor = slot.found
    if tensor is None or not is_alike(tensor, value):
        return slot.is_saved
    # Zero may have lost its sign in an addition.
    return not (same_bits(tensor, value) or (tensor.layout == torch.strided and torch.equal(tensor, value)))


def conversion_error(name: str, tensor: Tensor, dtype: torch.dtype, shape: Iterable[int]) -> RuntimeError:
    """Returns the error for a tensor that has another type or shape than the one it was frozen with."""
    return RuntimeError(
        f"{name} was {dtype} {tuple(shape)} and is {tensor.dtype} {tuple(tensor.shape)} now, but finished tasks use it "
        "as it was: convert it back, or, before any task is finished, go on with PackNet.resume_task(); a cache that "
        "grows should be a buffer with persistent=False"
    )


def _must_be_replaced(buffer: Tensor) -> bool:
    """Returns whether ``buffer`` cannot be written to: made in inference mode, expanded, or sparse."""
    if buffer.layout != torch.strided or buffer.is_inference():
        return True
    return any(stride == 0 and size > 1 for stride, size in zip(buffer.stride(), buffer.shape, strict=True))
