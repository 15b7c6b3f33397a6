"""Writes the weights that one task computes with into other memory, at nearly the speed of a copy."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from packnet_pl.core.bits import as_integers
from packnet_pl.core.ownership import FREE, visible

__all__ = ["TaskWriter"]

_CHUNK = 1 << 21
_Integers = NDArray[np.signedinteger]
_Chunk = tuple[_Integers, _Integers, NDArray[np.uint8]]
_Loop = Callable[[_Integers, _Integers, NDArray[np.uint8], np.uint8], None]


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
        self._chunks: list[_Chunk] = []
        self._others: list[tuple[Tensor, Tensor, Tensor]] = []
        for target, source, owner in weights:
            layer = as_integers(target), as_integers(source), owner
            if all(tensor.is_contiguous() and tensor.device.type == "cpu" for tensor in layer):
                out, bits, owners = (tensor.reshape(-1).numpy() for tensor in layer)
                parts = (slice(begin, begin + _CHUNK) for begin in range(0, owners.size, _CHUNK))
                self._chunks += [(out[part], bits[part], owners[part]) for part in parts]
            else:
                self._others.append(layer)

    @torch.no_grad()
    def write_(self, task: int) -> None:
        """Copies the weights that ``task`` computes with, bit for bit, from each source to its target; others become 0.

        Args:
            task: Number of the task, 1 to 255.
        """
        for out, bits, owner in self._others:
            torch.mul(bits, visible(owner, task), out=out)
        # Each thread takes what is next: torch's own wait busily after each of its operations, which slows some down.
        self._left -= sum(out.size for out, _, _ in self._chunks)
        loop, to_do = _write_plainly if self._left >= 0 else _compiled(), iter(self._chunks)
        helpers = min(torch.get_num_threads(), len(self._chunks)) - 1
        if helpers < 1:
            _write_all(loop, to_do, task)
            return
        with ThreadPoolExecutor(helpers) as pool:
            working = [pool.submit(_write_all, loop, to_do, task) for _ in range(helpers)]
            _write_all(loop, to_do, task)
            for helper in working:
                helper.result()


def _write_all(loop: _Loop, chunks: Iterator[_Chunk], task: int) -> None:
    number = np.uint8(task)
    for out, bits, owner in chunks:
        loop(out, bits, owner, number)


@cache
def _compiled() -> _Loop:
    import numba

    compiled: _Loop = numba.njit(nogil=True)(_write)
    return compiled


def _write_plainly(out: _Integers, bits: _Integers, owner: NDArray[np.uint8], task: np.uint8) -> None:
    """Does the same as :func:`_write` without numba, through a mask in memory."""
    np.multiply(bits, owner - np.uint8(FREE + 1) < task, out=out)


def _write(out: _Integers, bits: _Integers, owner: NDArray[np.uint8], task: np.uint8) -> None:
    """Copies visible weights in one pass, compiled by numba.

    ``owner - FREE - 1`` wraps around for free weights, so that one comparison finds both kinds that are hidden.
    """
    for index in range(out.size):
        out[index] = bits[index] if np.uint8(owner[index] - np.uint8(FREE + 1)) < task else 0
