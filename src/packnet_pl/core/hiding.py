"""Sets weights to zero, in place, that a task does not compute with."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from packnet_pl.core.bits import as_integers
from packnet_pl.core.loops import are_many, compiled, count_write_, each, in_memory_order, pieces
from packnet_pl.core.ownership import FREE, visible

__all__ = ["EVERY_TASK", "hide_"]

EVERY_TASK = 255
"""In place of a task: of all that own something."""


@torch.no_grad()
def hide_(weights: Mapping[str, Tensor], owners: Mapping[str, Tensor], task: int) -> None:
    """Sets to zero what neither ``task`` (1 to 255) nor an earlier one owns.

    Args:
        weights: Name -> weight.
        owners: Name -> owner map, of the shape and on the device of the weight.
        task: Number of the task; :data:`EVERY_TASK` sets what is free to zero.
    """
    many = are_many(weights.values())
    for name, weight in weights.items():
        found = in_memory_order(weight, owners[name]) if many else None
        if found is None:
            as_integers(weight).mul_(visible(owners[name], task))
        else:
            _hide_in_pieces(np.uint8(task), *found)
            count_write_(weight)


def _hide_in_pieces(task: np.uint8, bits: NDArray[Any], owners: NDArray[np.uint8]) -> None:
    each(lambda piece: compiled(_hide)(bits[piece], owners[piece], task), pieces(bits.size))


def _hide(bits: NDArray[Any], owners: NDArray[np.uint8], task: np.uint8) -> None:
    """One comparison finds both kinds that are hidden: ``owner - FREE - 1`` wraps around for free weights."""
    for index in range(bits.size):
        bits[index] = bits[index] if np.uint8(owners[index] - np.uint8(FREE + 1)) < task else 0
