"""One uint8 owner per weight; every mask is derived from it and none is stored.

Owner 0 is a free weight, owner k belongs to the k-th task. The map is never changed in place, so that a state dict
taken earlier stays as it was, and so does the map when a change fails half-way.
"""

import torch
from torch import Tensor

__all__ = ["FREE", "all_free", "claim", "count_owners", "release", "trainable", "visible"]

FREE = 0


def all_free(weight: Tensor) -> Tensor:
    """Returns an owner map (uint8, the shape and memory layout of ``weight``) in which every weight is free."""
    return torch.zeros_like(weight, dtype=torch.uint8, requires_grad=False)


def claim(owner: Tensor, task: int) -> Tensor:
    """Returns ``owner`` with every free weight given to ``task`` (1 to 255)."""
    return owner.masked_fill(owner == FREE, task)


def release(owner: Tensor, mask: Tensor) -> Tensor:
    """Returns ``owner`` with the weights where ``mask`` (bool, same shape) is True set free."""
    return owner.masked_fill(mask, FREE)


def trainable(owner: Tensor, task: int) -> Tensor:
    """Returns the mask (bool) of the weights that may change while ``task`` is open."""
    return owner == task


def visible(owner: Tensor, task: int) -> Tensor:
    """Returns the mask (bool) of the weights that ``task`` computes with: its own and all earlier ones."""
    return (owner != FREE) & (owner <= task)


def count_owners(owner: Tensor, num_tasks: int) -> list[int]:
    """Returns how many weights are free and how many each task owns: ``num_tasks + 1`` counts, free first."""
    counts: list[int] = torch.bincount(owner.reshape(-1), minlength=num_tasks + 1).tolist()
    return counts
