"""Warns of parameters that are not divided among tasks: of kinds that the rule does not know, and of large ones."""

import re
import warnings
from collections.abc import Iterator, Mapping

import torch

from packnet_pl.core.gradients import RequiresGrad
from packnet_pl.core.inventory import Inventory
from packnet_pl.core.prunable import PRUNABLE_TYPES, Role, own_name, role_of
from packnet_pl.core.slots import Slot
from packnet_pl.counting import counted

__all__ = ["parameter_count", "usable_fraction", "warn_caller", "warn_of_large", "warn_of_later", "warn_of_unknown"]

_LARGE = 0.1
"""Share of all parameters that may be frozen after the first task without a word."""
_SHOWN = 8


def parameter_count(inventory: Inventory) -> int:
    """Returns the number of parameters, each counted once, but for the refused."""
    return sum(_size(slot) for slot in _slots(inventory))


def usable_fraction(inventory: Inventory) -> float:
    """Returns the share of all parameters, in [0, 1], that are divided among tasks, or each task's own."""
    usable = sum(_size(slot) for slot in {**inventory.owned, **inventory.per_task}.values() if slot.is_parameter)
    return usable / max(1, parameter_count(inventory))


def warn_of_unknown(inventory: Inventory, prunable: str, trained: RequiresGrad) -> None:
    """Names the first parameter of each kind that the rule does not know, and that is therefore frozen.

    A kind is a class of modules and a name in it, such as ``gate`` of ``Mixer``.

    Args:
        inventory: The tensors of the shared module, sorted by the rule.
        prunable: The rule as the user named it; only "weights" and "all" judge by what parameters do.
        trained: Knows which parameters are trained at all.
    """
    if prunable not in ("weights", "all"):
        return
    kinds: dict[tuple[str, str], list[tuple[str, Slot]]] = {}
    for name, slot in _standing(inventory, trained).items():
        if role_of(name, slot.used_by, slot.whole) is Role.UNKNOWN:
            kind = type(slot.used_by).__name__, re.sub(r"\d+", "#", own_name(name, slot.used_by))
            kinds.setdefault(kind, []).append((name, slot))
    if not kinds:
        return
    total = parameter_count(inventory)
    found = [
        f"{slots[0][0]} ({kind}, {slots[0][1].whole.dtype} {tuple(slots[0][1].whole.shape)}"
        f"{f', and {len(slots) - 1} more like it' if len(slots) > 1 else ''}: "
        f"{_percent(sum(_size(slot) for _, slot in slots), total)} of all parameters)"
        for (kind, _), slots in kinds.items()
    ]
    more = f"; and {counted(len(found) - _SHOWN, 'more kind')}" if len(found) > _SHOWN else ""
    warn_caller(
        f"prunable={prunable!r} does not know whether these multiply activations, so they are frozen after the first "
        f"task: {'; '.join(found[:_SHOWN])}{more}{_advice(kinds)}",
    )


def _advice(kinds: Mapping[tuple[str, str], list[tuple[str, Slot]]]) -> str:
    """Returns how to divide the first of them that can be divided; complex and integer ones cannot."""
    names = [slots[0][0] for slots in kinds.values() if slots[0][1].whole.dtype in PRUNABLE_TYPES]
    if not names:
        return ""
    return (
        "; to divide one among tasks all the same, say so: prunable=lambda name, module, parameter: "
        f"packnet_pl.core.is_weight(name, module, parameter) or name == {names[0]!r}"
    )


def warn_of_large(inventory: Inventory, task: str, trained: RequiresGrad) -> None:
    """Says, as the second task begins, what can no longer move, if that is more than a tenth of all parameters.

    Args:
        inventory: The tensors of the shared module.
        task: The task that begins.
        trained: Knows which parameters are trained at all.
    """
    standing, total = _standing(inventory, trained), parameter_count(inventory)
    frozen = sum(map(_size, standing.values()))
    if frozen <= _LARGE * total:
        return
    largest = sorted(standing.items(), key=lambda item: -_size(item[1]))[:3]
    names = ", ".join(f"{name} ({_percent(_size(slot), total)})" for name, slot in largest)
    warn_caller(
        f"task {task!r} and later ones cannot change {_percent(frozen, total)} of the parameters, which were the first "
        f"task's and are not divided among tasks; the largest are {names}; PackNet(..., prunable=...) says what is "
        "divided ('all' takes embeddings and position tables too, a function whatever it chooses), and norm='per_task' "
        "and bias='per_task' give each task its own; all that can only be said before the first task",
    )


def warn_of_later(recorded: Inventory, wanted: Inventory, prunable: str, later: str) -> None:
    """Says, as a state from before there were rules is loaded, which weights stay frozen that could be divided now.

    Args:
        recorded: Sorted by the rule that the state was made with.
        wanted: Sorted by the rule of this PackNet.
        prunable: The former.
        later: The latter.
    """
    names = [name for name in wanted.owned if name not in recorded.owned and name in recorded.frozen]
    if not names:
        return
    total = parameter_count(wanted)
    share = _percent(sum(_size(wanted.owned[name]) for name in names), total)
    warn_caller(
        f"these tasks were trained with prunable={prunable!r}, which stays: {counted(len(names), 'parameter tensor')} "
        f"({share} of all parameters, {names[0]} first), which prunable={later!r} would divide among tasks, remain "
        "frozen",
    )


def _standing(inventory: Inventory, trained: RequiresGrad) -> dict[str, Slot]:
    """Returns the parameters that the first task can train, and later ones cannot."""
    return {name: slot for name, slot in inventory.frozen.items() if slot.is_parameter and trained.was(slot.whole)}


def _slots(inventory: Inventory) -> Iterator[Slot]:
    parts: tuple[Mapping[str, Slot], ...] = (inventory.owned, inventory.frozen, inventory.per_task)
    return (slot for part in parts for slot in part.values() if slot.is_parameter)


def _size(slot: Slot) -> int:
    return slot.whole.numel()


def _percent(part: int, whole: int) -> str:
    return f"{part / max(1, whole):.2%}"


def warn_caller(text: str) -> None:
    """Warns the code that called PackNet, two calls above the caller of this, in the first of several processes."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized() and torch.distributed.get_rank()):
        warnings.warn(text, stacklevel=4)
