"""Common ground of compiled loops over the memory of weights and their owners: one pass where torch needs several.

A loop is a plain function over 1-D arrays, compiled by numba when it first meets many weights: to load numba and to
compile takes about a second, which few weights never pay back. What a loop does, plain torch does too, bit for bit, on
other devices and for fewer weights.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from packnet_pl.core.bits import as_integers

__all__ = ["MANY", "are_many", "compiled", "count_write_", "each", "empty", "in_memory_order", "pieces"]

MANY = 1 << 22
"""Weights of a network from which on loops are compiled."""

_PIECE = 1 << 21

_Function = TypeVar("_Function", bound=Callable[..., Any])
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def are_many(tensors: Iterable[Tensor]) -> bool:
    """Returns whether these tensors together have so many entries that loops are worth compiling."""
    return sum(tensor.numel() for tensor in tensors) >= MANY


@cache
def compiled(loop: _Function) -> _Function:
    """Returns ``loop`` compiled by numba, without Python's lock."""
    import numba

    return cast("_Function", numba.njit(nogil=True)(loop))


def in_memory_order(*tensors: Tensor) -> tuple[NDArray[Any], ...] | None:
    """Returns each tensor as a 1-D array that shares its memory, entries in one common order.

    Args:
        tensors: Of one shape. Numbers come as signed integers of their width, uint8 and bool as they are.

    Returns:
        None if a tensor is on another device than the CPU or not strided, or its memory has gaps, or they are laid out
        differently.
    """
    if not all(map(_is_dense, tensors)) or len(set(map(_order, tensors))) > 1:
        return None
    return tuple(_plain(tensor).as_strided((tensor.numel(),), (1,)).numpy() for tensor in tensors)


def empty(size: int, dtype: np.dtype[Any]) -> NDArray[Any]:
    """Returns a 1-D array whose entries are not set, in memory that torch has got.

    numpy asks for large pages. Where memory is in pieces, the system first makes room for them, which takes several
    times as long as small pages do.
    """
    return torch.empty(size * dtype.itemsize, dtype=torch.uint8, device="cpu").numpy().view(dtype)


def count_write_(tensor: Tensor) -> None:
    """Raises the version of a tensor whose memory a loop has written to: torch does not see it."""
    if not tensor.is_inference():
        torch.autograd.graph.increment_version(tensor)


def pieces(size: int) -> list[slice]:
    """Returns the slices of ``size`` entries that threads take one after another."""
    return [slice(begin, min(begin + _PIECE, size)) for begin in range(0, size, _PIECE)]


def each(work: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result]:
    """Returns what ``work`` makes of each item, in order, by as many threads as torch has."""
    # Not torch's own threads: they wait busily after each operation, which slows the others down.
    todo: Sequence[_Item] = list(items)
    threads = min(torch.get_num_threads(), len(todo))
    if threads < 2:
        return [work(item) for item in todo]
    pool = ThreadPoolExecutor(threads)
    try:
        return list(pool.map(work, todo))
    finally:
        # After an interrupt, and a second one while it is waited for: nobody writes any more when it gets out.
        try:
            pool.shutdown(cancel_futures=True)
        except KeyboardInterrupt:
            pool.shutdown(cancel_futures=True)
            raise


def _plain(tensor: Tensor) -> Tensor:
    return tensor.detach() if tensor.dtype in (torch.uint8, torch.bool) else as_integers(tensor)


def _order(tensor: Tensor) -> tuple[int, ...]:
    """Returns the strides that count: a dimension of size one may have any, as the 1 x 1 kernels of convolutions do."""
    return tuple(stride for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1)


def _is_dense(tensor: Tensor) -> bool:
    """Returns whether ``tensor`` is real and in the CPU's memory, each entry once and without gaps."""
    if tensor.device.type != "cpu" or tensor.layout != torch.strided or tensor.is_complex():
        return False
    if tensor.is_contiguous():
        return True
    sizes = sorted((stride, size) for stride, size in zip(tensor.stride(), tensor.shape, strict=True) if size > 1)
    before = [math.prod(size for _, size in sizes[:index]) for index in range(len(sizes))]
    return [stride for stride, _ in sizes] == before
