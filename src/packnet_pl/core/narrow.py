"""Shows a module, for a while, at the width at which a task was finished: the leading entries of its tensors.

A wider matrix sums in another order even where it is zero, so that a narrower task is not computed by zeroing what is
not its own: its layers get tensors of its own shapes.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, cast

import torch
from torch import Tensor, nn

from packnet_pl.core.hiding import hide_
from packnet_pl.core.slots import Slot, memory_of, slots_of

__all__ = ["leading", "narrow_copy", "replace_tensors_", "shown_narrow", "sliced"]

_Entry = tuple[dict[str, Tensor | None], str, Tensor]


def leading(tensor: Tensor, shape: Sequence[int]) -> Tensor:
    """Returns the entries of ``tensor`` with an index below ``shape`` in each dimension; a view."""
    return tensor[tuple(slice(size) for size in shape)]


def sliced(slots: Mapping[str, Slot], shapes: Mapping[str, Sequence[int]]) -> dict[str, Tensor]:
    """Returns name -> a copy, in memory without gaps, of the leading entries of each tensor.

    Args:
        slots: Name -> slot.
        shapes: Name -> shape of the copy.
    """
    return {name: leading(slot.now.detach(), shapes[name]).clone() for name, slot in slots.items()}


@contextmanager
def shown_narrow(
    module: nn.Module,
    slots: Mapping[str, Slot],
    owners: Mapping[str, Tensor],
    task: int,
    shapes: Mapping[str, Sequence[int]],
    own: Mapping[str, Tensor],
) -> Iterator[None]:
    """Replaces the tensors of ``module`` by those of a narrower task; puts the same objects back at the end.

    The tensors themselves are not written to. Whatever is written to, moved or converted inside is given up.

    Args:
        module: The shared one.
        slots: Name -> slot of every tensor.
        owners: Name -> owner map (uint8) of each weight that is divided among tasks, on the device of the weight.
        task: Number of the task, 1 to 255.
        shapes: Name -> shape that the tensor had when the task was finished.
        own: Name -> values of the task's own, of these shapes.
    """  # noqa: DOC501
    with torch.inference_mode(False), torch.no_grad():
        narrow = sliced(slots, shapes)
        hide_(
            {name: narrow[name] for name in owners},
            {name: leading(owner, shapes[name]).contiguous() for name, owner in owners.items()},
            task,
        )
        for name, value in own.items():
            narrow[name].copy_(value)
    before: list[_Entry] = []
    try:
        replace_tensors_(module, slots, narrow, before)
        # Autocast keeps low-precision copies of weights, which would outlive the change.
        torch.clear_autocast_cache()
        yield
    finally:
        try:
            _put_back(before)
        except KeyboardInterrupt:
            _put_back(before)
            raise


def narrow_copy(module: nn.Module, slots: Mapping[str, Slot], values: Mapping[str, Tensor]) -> nn.Module:
    """Returns a copy of ``module`` with other tensors in its slots.

    Args:
        module: Whose tensors are not copied.
        slots: Name -> slot, each tensor once.
        values: Name -> tensor of the copy; parameters become one, with the ``requires_grad`` of the module's.
    """
    known: dict[int, Any] = {}
    for name, slot in slots.items():
        tensor, value = slot.now, values[name]
        known[id(tensor)] = nn.Parameter(value, requires_grad=tensor.requires_grad) if slot.is_parameter else value
    return deepcopy(module, known)


def replace_tensors_(
    module: nn.Module, slots: Mapping[str, Slot], values: Mapping[str, Tensor], before: list[_Entry] | None = None
) -> None:
    """Puts other tensors into the slots of a module, under all names that a tied one has.

    Args:
        module: Whose.
        slots: Name -> slot, each tensor once.
        values: Name -> tensor to be there; parameters become one, with the ``requires_grad`` of the one before.
        before: Gets what was there: the table of a layer's parameters or buffers, the key in it, and the tensor.
    """
    names = {memory_of(slot.now): name for name, slot in slots.items()}
    made: dict[str, Tensor] = {}
    before = [] if before is None else before
    for _, slot in list(slots_of(module)):
        tensor = slot.now
        name = names.get(memory_of(tensor))
        if name is None:
            continue
        if name not in made:
            value = values[name]
            made[name] = nn.Parameter(value, requires_grad=tensor.requires_grad) if slot.is_parameter else value
        table = cast("dict[str, Tensor | None]", slot.table)
        before.append((table, slot.key, tensor))
        table[slot.key] = made[name]


def _put_back(before: Sequence[_Entry]) -> None:
    for table, key, tensor in before:
        table[key] = tensor
    torch.clear_autocast_cache()
