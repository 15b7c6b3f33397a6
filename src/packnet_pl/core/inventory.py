"""The tensors of the shared module, sorted: which are owned weight by weight, which are frozen, which are refused."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from packnet_pl.core.module_modes import is_bias, is_norm
from packnet_pl.core.slots import Slot, memory_of, plain_name, slots_of, why_not_frozen

__all__ = ["PRUNABLE_MODULES", "Inventory", "PrunableFilter", "take_inventory"]

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
class Inventory:
    """Every tensor of the shared module, as name -> slot, in the order of the module tree.

    Attributes:
        owned: Weights that are divided among tasks, each listed once however many modules share it.
        frozen: Other parameters and persistent buffers: they train with the first task, and are frozen after it.
        per_task: Norm parameters with their statistics, and biases, of which each task has a copy of its own.
        unsaved: Buffers that are in no state dict: frozen after the first task too, but no file knows them.
        refused: Name -> reason of parameters that can neither be owned nor frozen.
    """

    owned: dict[str, Slot] = field(default_factory=dict)
    frozen: dict[str, Slot] = field(default_factory=dict)
    per_task: dict[str, Slot] = field(default_factory=dict)
    unsaved: dict[str, Slot] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def fixed(self) -> dict[str, Slot]:
        """The tensors that no task after the first may change at all: frozen and unsaved."""
        return {**self.frozen, **self.unsaved}

    @property
    def all(self) -> dict[str, Slot]:
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
        The slots as they are now. Names survive ``deepcopy`` and the replacement of layers, slots need not: take a new
        inventory instead of keeping one.
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
        reason = why_not_frozen(weight) or _why_not_owned(weight)
        if reason:
            found.refused[name] = reason
        else:
            found.owned[name] = Slot(layer, "weight", is_parameter=True, is_saved=True)
    for full_name, slot in slots_of(module):
        tensor, name = slot.now, plain_name(full_name)
        if memory_of(tensor) in seen:
            continue
        seen.add(memory_of(tensor))
        reason = why_not_frozen(tensor)
        if reason:
            found.refused[name] = reason
        elif own_norms if is_norm(slot.layer) else own_biases and is_bias(slot.key):
            found.per_task[name] = slot
        else:
            (found.frozen if slot.is_saved else found.unsaved)[name] = slot
    return found


def _why_not_owned(weight: Tensor) -> str | None:
    if not weight.is_floating_point():
        return f"its type is {weight.dtype}: only real floating point weights have a magnitude to prune by"
    if weight.layout != torch.strided:
        return f"its layout is {weight.layout}: only dense (strided) weights can be owned one by one"
    return None
