"""Writing what one task sees of all weights into other memory, at nearly the speed of a copy."""

from collections.abc import Iterable, Iterator
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
_Chunk = tuple[NDArray[np.signedinteger], NDArray[np.signedinteger], NDArray[np.uint8]]


@torch.no_grad()
def write_visible_(weights: Iterable[tuple[Tensor, Tensor, Tensor]], task: int, *, free_is_zero: bool) -> None:
    """Makes each target the weights of its source that ``task`` sees, bit for bit, and zero elsewhere.

    Args:
        weights: Of each layer target, source and owner map, all of one shape and on one device: the target is written
            to, the source (of the same type; it may be the target) has the weights of all tasks, owners are uint8.
        task: Number of the task, 1 to 255.
        free_is_zero: Whether all free weights are zero in the sources, so that nobody has to look for them.
    """
    chunks: list[_Chunk] = []
    for target, source, owner in weights:
        out, bits = as_integers(target), as_integers(source)
        if all(tensor.is_contiguous() and tensor.device.type == "cpu" for tensor in (out, bits, owner)):
            flat = out.reshape(-1).numpy(), bits.reshape(-1).numpy(), owner.reshape(-1).numpy()
            parts = (slice(begin, begin + _CHUNK) for begin in range(0, out.numel(), _CHUNK))
            chunks += [(flat[0][part], flat[1][part], flat[2][part]) for part in parts]
        else:
            torch.mul(bits, visible(owner, task), out=out)
    # Each thread takes what is next: torch's own wait busily after each of its operations, and slow some of these down.
    to_do = iter(chunks)
    helpers = min(torch.get_num_threads(), len(chunks)) - 1
    if helpers < 1:
        _write(to_do, task, free_is_zero)
        return
    with ThreadPoolExecutor(helpers) as pool:
        working = [pool.submit(_write, to_do, task, free_is_zero) for _ in range(helpers)]
        _write(to_do, task, free_is_zero)
        for helper in working:
            helper.result()


def _write(chunks: Iterator[_Chunk], task: int, free_is_zero: bool) -> None:
    """In chunks whose masks stay in the cache: torch's kernels for masks take three times as long on a CPU.

    Weights are multiplied by 0 and 1 as integers, which keeps bits. numpy widens the mask on the way, in pieces of its
    buffer size. ``owner - FREE - 1`` wraps around for free weights, so that one comparison finds both kinds that are
    hidden.
    """
    shown_memory = np.empty(_CHUNK, np.bool_)
    less_memory = np.empty(0 if free_is_zero else _CHUNK, np.uint8)
    before = np.setbufsize(_BUFFER)
    try:
        for out, bits, owner in chunks:
            shown, less = shown_memory[: owner.size], less_memory[: owner.size]
            if free_is_zero:
                np.less_equal(owner, np.uint8(task), out=shown)
            else:
                np.subtract(owner, np.uint8(FREE + 1), out=less)
                np.less(less, np.uint8(task), out=shown)
            np.multiply(bits, shown.view(np.int8), out=out)
    finally:
        np.setbufsize(before)
