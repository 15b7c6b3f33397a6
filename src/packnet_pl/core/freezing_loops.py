"""Compiled loops that mask gradients, and keep and restore the values of frozen entries, in one pass each.

They run over 1-D arrays in the order of memory: bits as signed integers, owners as uint8. Tables are indexed by owner:
all bits set where it is the task (``mine``), where it is another task (``others``), and zero elsewhere.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["any_between", "any_frozen", "gather", "mask", "restore"]

_Array = NDArray[Any]


def mask(bits: _Array, owners: _Array, number: np.uint8) -> None:
    """Sets ``bits`` to zero where the owner is not ``number``."""
    for index in range(bits.size):
        # A choice between two values, not an assignment under a condition: compilers make it a vector instruction.
        bits[index] = bits[index] if owners[index] == number else 0


def gather(bits: _Array, owners: _Array, others: _Array, values: _Array) -> None:
    """Writes the ``bits`` that belong to other tasks into ``values``, which has their number, one after another."""
    found = np.uint64(0)
    for index in range(bits.size):
        if found == values.size:
            break
        values[found] = bits[index]
        found += np.uint64(others[owners[index]] & 1)


def restore(bits: _Array, owners: _Array, mine: _Array, others: _Array, values: _Array) -> None:
    """Sets the ``bits`` of other tasks to ``values``, those of none to zero; it reads one value more than it uses."""
    found = np.uint64(0)
    for index in range(bits.size):
        owner = owners[index]
        # No branch: at a random half of the entries the processor would guess wrong.
        bits[index] = (bits[index] & mine[owner]) | (values[found] & others[owner])
        found += np.uint64(others[owner] & 1)


def any_frozen(bits: _Array, owners: _Array, number: np.uint8) -> Any:
    """Returns zero if all ``bits`` are where the owner is not ``number``."""
    found = bits[:1].sum() & 0
    for index in range(bits.size):
        found |= 0 if owners[index] == number else bits[index]
    return found


def any_between(bits: _Array, sign: int, least: int, most: int) -> bool:
    """Returns whether any magnitude, as an integer, lies between zero and ``least`` or above ``most``."""
    found = False
    for index in range(bits.size):
        magnitude = bits[index] & sign
        found |= ((magnitude > 0) & (magnitude < least)) | (magnitude > most)
    return found
