"""Writing what one task sees of a weight into other memory, at nearly the speed of a copy."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from packnet_pl.core.bits import as_integers
from packnet_pl.core.ownership import FREE, visible

__all__ = ["write_visible_"]

_CHUNK = 1 << 21
_BUFFER = 1 << 15
_Bits = NDArray[np.signedinteger]


@torch.no_grad()
def write_visible_(target: Tensor, source: Tensor, owner: Tensor, task: int, *, free_is_zero: bool) -> None:
    """Makes ``target`` the weights of ``source`` that ``task`` sees, bit for bit, and zero elsewhere.

    Args:
        target: Written to; the shape, type and device of ``source``.
        source: The weights of all tasks.
        owner: uint8 owner map of the same shape.
        task: Number of the task, 1 to 255.
        free_is_zero: Whether all free weights are zero in ``source``, so that nobody has to look for them.
    """
    bits, out = as_integers(source), as_integers(target)
    flat = all(tensor.is_contiguous() and tensor.device.type == "cpu" for tensor in (bits, out, owner))
    if not flat:
        torch.mul(bits, visible(owner, task), out=out)
        return
    arrays = out.reshape(-1).numpy(), bits.reshape(-1).numpy(), owner.reshape(-1).numpy()
    threads = min(torch.get_num_threads(), -(-bits.numel() // _CHUNK))
    if threads <= 1:
        _write(*arrays, task, free_is_zero)
        return
    share = -(-bits.numel() // threads)
    out_array, bits_array, owner_array = arrays

    def write(begin: int) -> None:
        part = slice(begin, begin + share)
        _write(out_array[part], bits_array[part], owner_array[part], task, free_is_zero)

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(write, range(0, bits.numel(), share)))


def _write(out: _Bits, bits: _Bits, owner: NDArray[np.uint8], task: int, free_is_zero: bool) -> None:
    """In chunks whose masks stay in the cache: torch's kernels for masks take three times as long on a CPU.

    Weights are multiplied by 0 and 1 as integers, which keeps bits. numpy widens the mask on the way, in pieces of its
    buffer size. ``owner - FREE - 1`` wraps around for free weights, so that one comparison finds both kinds that are
    hidden.
    """
    shown = np.empty(min(_CHUNK, out.size), np.bool_)
    less = np.empty(0 if free_is_zero else shown.size, np.uint8)
    before = np.setbufsize(_BUFFER)
    try:
        for begin in range(0, out.size, _CHUNK):
            chunk = slice(begin, begin + _CHUNK)
            size = owner[chunk].size
            if free_is_zero:
                np.less_equal(owner[chunk], np.uint8(task), out=shown[:size])
            else:
                np.subtract(owner[chunk], np.uint8(FREE + 1), out=less[:size])
                np.less(less[:size], np.uint8(task), out=shown[:size])
            np.multiply(bits[chunk], shown[:size].view(np.int8), out=out[chunk])
    finally:
        np.setbufsize(before)
