"""One uint8 owner per weight; every mask is derived from it and none is stored.

Owner 0 is a free weight, owner k belongs to the k-th task. The map is never changed in place, so that a state dict
taken earlier stays as it was, and so does the map when a change fails half-way. Bytes are computed with and not chosen
among: on a CPU, ``masked_fill`` takes ten times as long.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from packnet_pl.core.loops import are_many, compiled, each, in_memory_order, pieces
from packnet_pl.core.shards import Processes

__all__ = [
    "FREE",
    "all_free",
    "claim",
    "count_owned",
    "count_owners",
    "counts_in_all",
    "release",
    "trainable",
    "visible",
]

FREE = 0


def all_free(weight: Tensor) -> Tensor:
    """Returns an owner map (uint8, the shape and memory layout of ``weight``) in which every weight is free."""
    return torch.zeros_like(weight, dtype=torch.uint8, requires_grad=False)


def claim(owner: Tensor, task: int) -> Tensor:
    """Returns ``owner`` with every free weight given to ``task`` (1 to 255)."""
    return owner.logical_not().view(torch.uint8).mul_(task).bitwise_or_(owner)


def release(owner: Tensor, mask: Tensor) -> Tensor:
    """Returns ``owner`` with the weights where ``mask`` (bool, same shape) is True set free.

    The new map takes the memory of ``mask``, which is lost.
    """
    return mask.logical_not_().view(torch.uint8).mul_(owner)


def trainable(owner: Tensor, task: int) -> Tensor:
    """Returns the mask (bool) of the weights that may change while ``task`` is open."""
    return owner == task


def visible(owner: Tensor, task: int) -> Tensor:
    """Returns the mask (bool) of the weights that ``task`` computes with: its own and all earlier ones."""
    return (owner != FREE) & (owner <= task)


def count_owned(owner: Tensor, task: int) -> int:
    """Returns how many weights ``task`` (1 to 255) owns, or are free (0)."""
    found = in_memory_order(owner)
    if found is None:
        return int((owner == task).sum())
    # A map of bools for a piece only, and numpy counts those eight at a time.
    return sum(each(lambda piece: int(np.count_nonzero(found[0][piece] == task)), pieces(owner.numel())))


def count_owners(owner: Tensor, num_tasks: int) -> list[int]:
    """Returns how many weights are free and how many each task owns: ``num_tasks + 1`` counts, free first."""
    found = in_memory_order(owner) if are_many([owner]) else None
    if found is None:
        counts: list[int] = torch.bincount(owner.reshape(-1), minlength=num_tasks + 1).tolist()
        return counts
    owners = found[0]

    def count(piece: slice) -> NDArray[np.int64]:
        table = np.zeros(256, np.int64)
        compiled(_count)(owners[piece], table)
        return table

    total: list[int] = sum(each(count, pieces(owners.size))).tolist()  # type: ignore[union-attr]
    return total[: num_tasks + 1]


def counts_in_all(
    owners: Mapping[str, Tensor], num_tasks: int, processes: Processes | None = None
) -> dict[str, list[int]]:
    """Returns name -> :func:`count_owners` of the whole owner map.

    Args:
        owners: Name -> owner map, or this process's rows of it.
        num_tasks: How many tasks there are.
        processes: That have the rows, and must call it alike; None if maps are whole.
    """
    counts = {name: count_owners(owner, num_tasks) for name, owner in owners.items()}
    if processes is None or not counts:
        return counts
    total: list[list[int]] = processes.sum(torch.tensor(list(counts.values()))).tolist()
    return dict(zip(counts, total, strict=True))


def _count(owners: NDArray[np.uint8], table: NDArray[Any]) -> None:
    for owner in owners:
        table[owner] += 1
