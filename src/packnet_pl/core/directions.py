"""Weights that a layer divides by their own length: where pruning leaves nothing of one, it would compute 0 / 0.

Weight norm divides each row by its length, spectral norm the whole weight by its largest singular value. So pruning
leaves an entry of each row, or of the whole: the one that is worth most.
"""

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn.utils import parametrizations
from torch.nn.utils.parametrize import ParametrizationList
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from packnet_pl.core.slots import Slot

__all__ = ["clear_", "divides_by_length", "has_no_choice", "last_entries"]

_WHOLE = -1


def divides_by_length(slot: Slot) -> bool:
    """Returns whether a layer divides the weight, or each row of it, by its length."""
    return _kept_dimension(slot) is not None


def has_no_choice(slot: Slot) -> bool:
    """Returns whether each row of a weight under weight norm is one number, of which only the sign counts."""
    return _kept_dimension(slot) is not None and _rows(slot, slot.now).shape[1] == 1


def last_entries(slot: Slot, owner: Tensor, task: int, scores: Tensor | None = None) -> Tensor | None:
    """Returns the entries (bool) without which a row that is divided by its length would be nothing but zeros.

    Args:
        slot: Of a weight.
        owner: Its owner map (uint8, the weight's shape).
        task: Number of the task whose entries are to be pruned.
        scores: What each entry is worth: of the entries of a row that are not zero, the one worth most is left. None
            is the magnitudes.

    Returns:
        In the weight's shape; None if the layer divides by no length.
    """
    if _kept_dimension(slot) is None:
        return None
    weight = slot.now
    there = _rows(slot, weight != 0)
    mine = there & _rows(slot, owner == task)
    alone = mine.any(1) & ~(there & ~mine).any(1)
    worth = _rows(slot, weight.detach().abs() if scores is None else scores).masked_fill(~mine, -torch.inf)
    left = torch.zeros_like(mine)
    left[torch.arange(len(left), device=left.device), worth.argmax(1)] = True
    numbers = _rows(slot, torch.arange(weight.numel(), device=weight.device).reshape(weight.shape))
    kept = torch.zeros(weight.numel(), dtype=torch.bool, device=weight.device)
    kept[numbers[left & alone.unsqueeze(1)]] = True
    return kept.reshape(weight.shape)


@torch.no_grad()
def clear_(slots: Mapping[str, Slot], owners: Mapping[str, Tensor], task: int) -> None:
    """Sets a task's entries to zero, but for one of each row that is divided by its length: that is set to one.

    Args:
        slots: Name -> slot of each weight.
        owners: Name -> owner map (uint8, the weight's shape).
        task: Number of the task, whose weights may be NaN.
    """
    for name, slot in slots.items():
        weight, owner = slot.now.detach(), owners[name]
        kept = last_entries(slot, owner, task)
        weight.masked_fill_(owner == task, 0)
        if kept is not None:
            weight.masked_fill_(kept, 1)


def _rows(slot: Slot, tensor: Tensor) -> Tensor:
    """Returns what each length is of, one row each; ``tensor`` has the weight's shape."""
    dim = _kept_dimension(slot)
    if dim is None or not 0 <= dim < tensor.dim():
        return tensor.reshape(1, -1)
    return tensor.movedim(dim, 0).flatten(1)


def _kept_dimension(slot: Slot) -> int | None:
    """Returns along which dimension there is a length for each index (-1: one for all); None if there is none."""
    if isinstance(slot.layer, ParametrizationList):
        norms = [part for part in slot.layer if isinstance(part, parametrizations._WeightNorm)]
        if norms:
            return norms[0].dim if slot.key == "original1" else None
        spectral = any(isinstance(part, parametrizations._SpectralNorm) for part in slot.layer)
        return _WHOLE if spectral and slot.key == "original" else None
    for hook in slot.layer._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm) and slot.key == f"{hook.name}_v":
            return hook.dim
        if isinstance(hook, SpectralNorm) and slot.key == f"{hook.name}_orig":
            return _WHOLE
    return None
