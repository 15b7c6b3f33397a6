"""Writes the weights that one task computes with into other memory, at nearly the speed of a copy."""

from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from packnet_pl.core.bits import as_integers
from packnet_pl.core.loops import compiled, each, in_memory_order, pieces
from packnet_pl.core.ownership import FREE, visible

__all__ = ["TaskWriter"]

_Integers = NDArray[np.signedinteger]
_Piece = tuple[_Integers, _Integers, NDArray[np.uint8]]


class TaskWriter:
    """Writes the weights of one task after another.

    Args:
        weights: Of each layer target, source and owner map, all of one shape and on one device: the target is written
            to, the source (of the same type, in other memory) has the weights of all tasks, owners are uint8. Their
            memory is kept: what is changed in place shows, what is moved or replaced needs a new one.
        compile_above: Weights, those of all switches counted, from which on the compiled loop makes up for the second
            that it takes to load numba and to compile; numpy writes the same bits, with two passes more.
    """

    def __init__(self, weights: Iterable[tuple[Tensor, Tensor, Tensor]], *, compile_above: int = 1 << 26) -> None:
        self._left = compile_above
        self._pieces: list[_Piece] = []
        self._others: list[tuple[Tensor, Tensor, Tensor]] = []
        for layer in weights:
            arrays: tuple[NDArray[Any], ...] | None = in_memory_order(*layer)
            if arrays is None:
                target, source, owner = layer
                self._others.append((as_integers(target), as_integers(source), owner))
            else:
                out, bits, owners = arrays
                self._pieces += [(out[part], bits[part], owners[part]) for part in pieces(out.size)]

    @torch.no_grad()
    def write_(self, task: int) -> None:
        """Copies the weights that ``task`` computes with, bit for bit, from each source to its target; others become 0.

        The versions of targets (their write counters) may stay what they were.

        Args:
            task: Number of the task, 1 to 255.
        """
        for out, bits, owner in self._others:
            torch.mul(bits, visible(owner, task), out=out)
        self._left -= sum(out.size for out, _, _ in self._pieces)
        loop, number = _write_plainly if self._left >= 0 else compiled(_write), np.uint8(task)
        each(lambda piece: loop(*piece, number), self._pieces)


def _write_plainly(out: _Integers, bits: _Integers, owner: NDArray[np.uint8], task: np.uint8) -> None:
    """Does the same as :func:`_write` without numba, through a mask in memory."""
    np.multiply(bits, owner - np.uint8(FREE + 1) < task, out=out)


def _write(out: _Integers, bits: _Integers, owner: NDArray[np.uint8], task: np.uint8) -> None:
    """Copies visible weights in one pass, compiled by numba.

    ``owner - FREE - 1`` wraps around for free weights, so that one comparison finds both kinds that are hidden.
    """
    for index in range(out.size):
        out[index] = bits[index] if np.uint8(owner[index] - np.uint8(FREE + 1)) < task else 0
