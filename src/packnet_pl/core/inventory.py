"""The tensors of the shared module, sorted: which are owned weight by weight, which are frozen, which are refused."""

from dataclasses import dataclass, field

import torch
from torch import nn

from packnet_pl.core.bits import identity
from packnet_pl.core.directions import divides_by_length, has_no_choice
from packnet_pl.core.module_modes import is_bias, is_norm
from packnet_pl.core.prunable import PRUNABLE_TYPES, PrunableRule, is_weight
from packnet_pl.core.shards import Processes, is_shard, own_part, processes_of
from packnet_pl.core.slots import Slot, plain_name, slots_of, why_not_frozen

__all__ = ["Inventory", "take_inventory"]

_TYPES = "float16, bfloat16, float32 and float64"


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
    def of_tasks(self) -> dict[str, Slot]:
        """The tensors of which tasks have something of their own: entries of them, or copies."""
        return {**self.owned, **self.per_task}

    @property
    def processes(self) -> Processes | None:
        """Those that have the rows of its parameters, where these are sharded.

        Raises:
            ValueError: If not all are sharded over the same processes.
        """
        return processes_of(slot.whole for slot in {**self.owned, **self.frozen, **self.per_task}.values())

    @property
    def all(self) -> dict[str, Slot]:
        """All but the refused."""
        return {**self.owned, **self.per_task, **self.fixed}

    def check_handled(self, task: str) -> None:
        """Checks that no parameter is refused, before ``task`` is begun.

        Raises:
            ValueError: Otherwise; it names one.
        """
        if self.refused:
            name, reason = next(iter(self.refused.items()))
            raise ValueError(f"cannot begin {task!r}: parameter {name} is refused: {reason}")


def take_inventory(
    module: nn.Module, rule: PrunableRule = is_weight, *, own_norms: bool = False, own_biases: bool = False
) -> Inventory:
    """Sorts the tensors of ``module``.

    Args:
        module: The shared part of the network.
        rule: Which parameters are divided among tasks. A tied one is, if any of its names is. A weight under weight
            norm of which each row is one number is not: only its sign counts.
        own_norms: Whether each task has norm parameters and statistics of its own.
        own_biases: Whether each task has biases of its own.

    Returns:
        The slots as they are now. Names survive ``deepcopy`` and the replacement of layers, slots need not: take a new
        inventory instead of keeping one.
    """
    found = Inventory()
    seen: set[object] = set()  # by memory: weights may be tied without being one object
    slots = [(plain_name(name), slot, slot.whole, _why_unusable(slot)) for name, slot in slots_of(module)]
    is_sharded = any(is_shard(tensor) and not reason for _, _, tensor, reason in slots)
    memory = [id(tensor) if reason else identity(own_part(tensor)) for _, _, tensor, reason in slots]
    for at, (name, slot, tensor, unusable) in zip(memory, slots, strict=True):
        if not slot.is_parameter or unusable or at in seen:
            continue
        if not rule(name, slot.used_by, tensor) or has_no_choice(slot):
            continue
        seen.add(at)
        reason = _why_not_owned(slot) or (_why_not_owned_in_parts(slot) if is_sharded else None)
        if reason:
            found.refused[name] = reason
        else:
            found.owned[name] = slot
    for at, (name, slot, _, unusable) in zip(memory, slots, strict=True):
        if at in seen:
            continue
        seen.add(at)
        if unusable:
            found.refused[name] = unusable
        elif own_norms if is_norm(slot.layer) else own_biases and is_bias(slot.key):
            found.per_task[name] = slot
        else:
            (found.frozen if slot.is_saved else found.unsaved)[name] = slot
    return found


def _why_unusable(slot: Slot) -> str | None:
    if slot.is_parameter and not is_shard(slot.whole) and getattr(slot.layer, "_is_fsdp_managed_module", False):
        return (
            "fully_shard has its layer, but it is whole: call reshard() of the outermost module that fully_shard was "
            "given, after a forward pass without a backward pass, and give it no ignored_params"
        )
    return why_not_frozen(slot.whole)


def _why_not_owned_in_parts(slot: Slot) -> str | None:
    if not is_shard(slot.whole):
        return "each process has the whole of it, and of other parameters a part: give its layer to fully_shard, too"
    if divides_by_length(slot):
        return "its layer divides it by its length, of which no process has more than a part"
    return None


def _why_not_owned(slot: Slot) -> str | None:
    weight, layer = slot.now, slot.layer
    if weight.dtype not in PRUNABLE_TYPES:
        return f"its type is {weight.dtype}: only {_TYPES} weights have a magnitude to prune by"
    if weight.layout != torch.strided:
        return f"its layout is {weight.layout}: only dense (strided) weights can be owned one by one"
    if getattr(layer, "max_norm", None) is not None:
        return f"{type(layer).__name__}(max_norm={layer.max_norm}) changes it in each forward pass: use it without"
    return None
