"""Which parameters PackNet owns, which it only holds still, and which it cannot handle."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

from packnet_pl.core.bits import identity
from packnet_pl.core.module_modes import is_bias, is_norm

__all__ = [
    "PRUNABLE_MODULES",
    "Inventory",
    "Place",
    "PrunableFilter",
    "can_be_held",
    "find_module",
    "memory_of",
    "places_of",
    "plain_name",
    "take_inventory",
]

PrunableFilter = Callable[[str, nn.Module], bool]

PRUNABLE_MODULES = (
    nn.Conv1d,
    nn.Conv2d,
    nn.Conv3d,
    nn.ConvTranspose1d,
    nn.ConvTranspose2d,
    nn.ConvTranspose3d,
    nn.Linear,
)
"""Layers whose ``weight`` is divided among tasks: convolutions and fully connected layers, as in the paper."""


@dataclass(frozen=True)
class Place:
    """Where a tensor stands: it may be moved, converted or replaced there, while the place stays.

    Attributes:
        layer: The module that has it.
        key: Name of the parameter or buffer in that module.
        is_parameter: Whether it is a parameter; else it is a buffer.
        is_saved: Whether a state dict has it.
    """

    layer: nn.Module
    key: str
    is_parameter: bool
    is_saved: bool

    @property
    def table(self) -> Mapping[str, Tensor | None]:
        """What the layer has of this kind, as key -> tensor."""
        return self.layer._parameters if self.is_parameter else self.layer._buffers

    @property
    def found(self) -> Tensor | None:
        """The tensor that stands here now, or None: layers may take a buffer away."""
        table = self.table
        return table[self.key] if self.key in table else None  # noqa: SIM401 (a scripted module has no get)

    @property
    def now(self) -> Tensor:
        """The tensor that stands here now.

        Raises:
            RuntimeError: If there is none any more.
        """
        tensor = self.found
        if tensor is None:
            raise RuntimeError(f"{type(self.layer).__name__} has no {self.key!r} any more: it was removed")
        return tensor


@dataclass(frozen=True)
class Inventory:
    """Every tensor of the shared module, as name -> place, in the order of the module tree.

    Attributes:
        owned: Weights that are divided among tasks, each listed once however many modules share it.
        frozen: Other parameters and persistent buffers: they train with the first task and then stand still.
        per_task: Norm parameters with their statistics, and biases, of which each task has a copy of its own.
        unsaved: Buffers that are in no state dict: they stand still too, but no file knows them.
        refused: Name -> reason of parameters that can neither be owned nor held still.
    """

    owned: dict[str, Place] = field(default_factory=dict)
    frozen: dict[str, Place] = field(default_factory=dict)
    per_task: dict[str, Place] = field(default_factory=dict)
    unsaved: dict[str, Place] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def fixed(self) -> dict[str, Place]:
        """What all tasks share as it is: frozen and unsaved."""
        return {**self.frozen, **self.unsaved}

    @property
    def held(self) -> dict[str, Place]:
        """All but the refused."""
        return {**self.owned, **self.per_task, **self.fixed}


def take_inventory(
    module: nn.Module, prunable: PrunableFilter | None = None, *, own_norms: bool = False, own_biases: bool = False
) -> Inventory:
    """Sorts the tensors of ``module``.

    Args:
        module: The shared part of the network.
        prunable: Called with the name and the module of each convolution and linear layer; False leaves its weight out
            of pruning, so that it is frozen after the first task. It can narrow the choice, not widen it.
        own_norms: Whether each task has norm parameters and statistics of its own.
        own_biases: Whether each task has biases of its own.

    Returns:
        The places as they are now. Names survive ``deepcopy`` and the replacement of layers, places need not: take a
        new inventory instead of keeping one.
    """
    found = Inventory()
    seen: set[object] = set()  # by memory: weights may be tied without being one object
    for module_name, layer in module.named_modules():
        weight = layer._parameters.get("weight") if isinstance(layer, PRUNABLE_MODULES) else None
        if weight is None or memory_of(weight) in seen:
            continue
        if prunable is not None and not prunable(plain_name(module_name), layer):
            continue
        seen.add(memory_of(weight))
        name = plain_name(f"{module_name}.weight" if module_name else "weight")
        reason = _why_not_held(weight) or _why_not_owned(weight)
        if reason:
            found.refused[name] = reason
        else:
            found.owned[name] = Place(layer, "weight", is_parameter=True, is_saved=True)
    for full_name, place in places_of(module):
        tensor, name = place.now, plain_name(full_name)
        if memory_of(tensor) in seen:
            continue
        seen.add(memory_of(tensor))
        reason = _why_not_held(tensor)
        if reason:
            found.refused[name] = reason
        elif own_norms if is_norm(place.layer) else own_biases and is_bias(place.key):
            found.per_task[name] = place
        else:
            (found.frozen if place.is_saved else found.unsaved)[name] = place
    return found


def places_of(module: nn.Module) -> Iterator[tuple[str, Place]]:
    """Yields name and place of every parameter, then of every buffer of ``module``; what is shared comes repeatedly."""
    for prefix, layer in module.named_modules():
        for key, tensor in layer._parameters.items():
            if tensor is not None:
                yield f"{prefix}.{key}" if prefix else key, Place(layer, key, is_parameter=True, is_saved=True)
    for prefix, layer in module.named_modules():
        for key, buffer in layer._buffers.items():
            if buffer is not None:
                saved = key not in layer._non_persistent_buffers_set
                yield f"{prefix}.{key}" if prefix else key, Place(layer, key, is_parameter=False, is_saved=saved)


def find_module(root: nn.Module, name: str) -> nn.Module | None:
    """Returns the module of that name, also under its second name where it has two; None if there is none."""
    try:
        return root.get_submodule(name)
    except AttributeError:
        return None


def plain_name(name: str) -> str:
    """Returns ``name`` without the prefix that ``torch.compile`` adds."""
    return ".".join(part for part in name.split(".") if part != "_orig_mod")


def can_be_held(tensor: Tensor) -> bool:
    """Returns whether ``tensor`` is a plain one, whose values can be read and put back."""
    return _why_not_held(tensor) is None


def memory_of(tensor: Tensor) -> object:
    """Returns what tied tensors have in common, also those that are tied without being one object."""
    return id(tensor) if _why_not_held(tensor) else identity(tensor)


def _why_not_held(tensor: Tensor) -> str | None:
    if nn.parameter.is_lazy(tensor):
        return "it has no values yet (a lazy layer): run one batch through the network first"
    if is_traceable_wrapper_subclass(tensor):
        return f"it is a {type(tensor).__name__} (sharded or quantized): only plain tensors can be held entry by entry"
    if tensor.is_quantized:
        return "it is quantized: only plain tensors can be held entry by entry"
    if tensor.device.type == "meta":
        return "it has no values (meta device): materialize the network first"
    return None


def _why_not_owned(weight: Tensor) -> str | None:
    if not weight.is_floating_point():
        return f"its type is {weight.dtype}: only real floating point weights have a magnitude to prune by"
    if weight.layout != torch.strided:
        return f"its layout is {weight.layout}: only dense (strided) weights can be owned one by one"
    return None
