"""Sums over a tensor's entries in which any changed bit shows, per owner: one pass over the weights for all tasks.

Each entry is mixed with its row-major index to a 64-bit number, and these are added up modulo 2^64, in any order:
threads take pieces, and all owners are summed in one go. At one index the mixing is a bijection, so a single changed
entry always shows; of several changed together, one change in 2^64 would not.

The mixing is that of SplitMix64 (Steele, Lea & Flood, "Fast Splittable Pseudorandom Number Generators", OOPSLA 2014;
its constants are Stafford's variant 13 of the finalizer of MurmurHash3), of the state ``bits + (index + 1) * gamma``.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping
from itertools import accumulate
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from packnet_pl.core.bits import as_integers, parts
from packnet_pl.core.loops import are_many, compiled, each
from packnet_pl.core.shards import Processes, Stretch, first_index, is_shard, own_part, processes_of

__all__ = ["sums", "sums_by_owner"]

_OWNERS = 256
_RUNS = 4
_PIECE = 1 << 21
_BATCH, _BATCH_ON_CPU = 1 << 21, 1 << 16
"""Entries that torch mixes at once: on a CPU, what stays in its cache."""
_LANES = 32
"""Numbers that make up one sum on a GPU, whose threads would wait for each other to add to a single one."""

_GAMMA, _FIRST, _SECOND = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_30, _27, _31 = np.uint64(30), np.uint64(27), np.uint64(31)

_Key = TypeVar("_Key", bound=Hashable)


class _Piece(NamedTuple):
    """Entries that follow each other in row-major order.

    Attributes:
        row: Of the table of sums.
        start: Index of the first entry.
        bits: Integers, of any shape.
        owner: uint8, of the same shape; None if there is one sum over all.
    """

    row: int
    start: int
    bits: Tensor
    owner: Tensor | None


def sums(tensors: Mapping[_Key, Tensor | Stretch]) -> dict[_Key, int]:
    """Returns the sum, in [0, 2^64), over all entries of each tensor.

    Args:
        tensors: Of any type and device; of a sparse one, its indices and values count. Of a sharded one, or
            a stretch, all processes get the sum over the whole, and must call it alike.
    """
    pieces: list[_Piece] = []
    for row, tensor in enumerate(tensors.values()):
        if isinstance(tensor, Stretch):
            start, own = tensor.start, tensor.part
        else:
            start, own = first_index(tensor), own_part(tensor)
        for part in map(as_integers, parts(own)):
            pieces.append(_Piece(row, start, part, None))
            start += part.numel()
    large = {piece.row for piece in pieces if are_many([piece.bits])}
    found = _of_all_processes(_add_up(pieces, large, (len(tensors), 1)), tensors.values())
    return dict(zip(tensors, found[:, 0].tolist(), strict=True))


def sums_by_owner(weights: Mapping[_Key, Tensor], owners: Mapping[_Key, Tensor]) -> dict[_Key, list[int]]:
    """Returns the sum, in [0, 2^64), over the entries of each weight that owner 0, 1, ..., 255 has.

    Args:
        weights: Strided ones, or sharded, as above.
        owners: Key -> uint8, of the shape and on the device of the weight, or of this process's part of it.
    """
    pieces = [
        _Piece(row, first_index(weight), as_integers(own_part(weight)), owners[key])
        for row, (key, weight) in enumerate(weights.items())
    ]
    large = range(len(pieces)) if are_many(piece.bits for piece in pieces) else ()
    found = _of_all_processes(_add_up(pieces, large, (len(pieces), _OWNERS)), weights.values())
    return dict(zip(weights, found.tolist(), strict=True))


def _of_all_processes(table: NDArray[np.uint64], tensors: Iterable[Tensor | Stretch]) -> NDArray[np.uint64]:
    """Returns the table in which the rows of sharded tensors are the sums over all processes."""
    held = list(tensors)
    rows = [row for row, tensor in enumerate(held) if isinstance(tensor, Stretch) or is_shard(tensor)]
    processes: Processes | None = next((part.processes for part in held if isinstance(part, Stretch)), None)
    processes = processes or processes_of(tensor for tensor in held if not isinstance(tensor, Stretch))
    if processes is not None:
        table[rows] = processes.sum(torch.from_numpy(table[rows].view(np.int64))).numpy().view(np.uint64)
    return table


def _add_up(given: Iterable[_Piece], large: Iterable[int], shape: tuple[int, int]) -> NDArray[np.uint64]:
    """Returns the table of sums, of that ``shape``; the rows ``large`` are worth a compiled loop."""
    rows = set(large)
    of_loop: list[_Piece] = []
    of_torch: list[_Piece] = []
    for piece in given:
        on_cpu = piece.bits.device.type == "cpu"
        if on_cpu and piece.row in rows:
            of_loop += _split(piece, _PIECE)
        else:
            of_torch += _split(piece, _BATCH_ON_CPU if on_cpu else _BATCH)
    table = np.zeros(shape, np.uint64)
    for piece, found in zip(of_loop, each(_sums_by_loop, of_loop), strict=True):
        table[piece.row] += found[: shape[1]]
    # Read at the end: a GPU need not be waited for between batches.
    batches = [(batch, _sums_by_torch(batch, shape[1])) for batch in _batches(of_torch)]
    for batch, tensor in batches:
        np.add.at(table, [piece.row for piece in batch], tensor.cpu().numpy().view(np.uint64))
    return table


def _split(piece: _Piece, most: int) -> Iterator[_Piece]:
    """Yields pieces of at most ``most`` entries; none is copied yet, whatever the memory layout."""
    row, start, bits, owner = piece
    size = bits.numel()
    if size <= most:
        yield piece
        return
    if bits.is_contiguous() and (owner is None or owner.is_contiguous()):
        bits, owner = bits.view(-1), None if owner is None else owner.view(-1)
    inside = size // len(bits)
    step = most // inside
    for begin in range(0, len(bits), max(1, step)):
        taken = slice(begin, begin + step) if step else begin
        part = _Piece(row, start + begin * inside, bits[taken], None if owner is None else owner[taken])
        yield from _split(part, most)


def _sums_by_loop(piece: _Piece) -> NDArray[np.uint64]:
    bits = piece.bits.reshape(-1).numpy()
    owners = np.zeros(bits.size, np.uint8) if piece.owner is None else piece.owner.reshape(-1).numpy()
    found = np.zeros((_RUNS, _OWNERS), np.uint64)
    compiled(_add)(bits, owners, piece.start, found)
    total: NDArray[np.uint64] = found.sum(0)
    return total


def _add(bits: NDArray[Any], owners: NDArray[np.uint8], start: int, found: NDArray[np.uint64]) -> None:
    """Adds the entries of each quarter to sums of its own: to add twice to one number is to wait for it."""
    length = bits.size // _RUNS + 1
    for step in range(length):
        for run in range(_RUNS):
            at = run * length + step
            if at < bits.size:
                mixed = np.uint64(np.int64(bits[at])) + np.uint64(start + at + 1) * _GAMMA
                mixed = (mixed ^ (mixed >> _30)) * _FIRST
                mixed = (mixed ^ (mixed >> _27)) * _SECOND
                found[run, owners[at]] += mixed ^ (mixed >> _31)


def _batches(pieces: Iterable[_Piece]) -> Iterator[list[_Piece]]:
    """Yields pieces together, as far as they are on one device and not too many entries."""
    batch: list[_Piece] = []
    size = 0
    for piece in pieces:
        device, entries = piece.bits.device, piece.bits.numel()
        most = _BATCH_ON_CPU if device.type == "cpu" else _BATCH
        if batch and (device != batch[0].bits.device or size + entries > most):
            yield batch
            batch, size = [], 0
        batch.append(piece)
        size += entries
    if batch:
        yield batch


def _sums_by_torch(batch: list[_Piece], width: int) -> Tensor:
    """Returns the sums (int64, pieces x ``width``) of pieces on one device."""
    device = batch[0].bits.device
    lanes = 1 if device.type == "cpu" else _LANES
    sizes = [piece.bits.numel() for piece in batch]
    begins = list(accumulate(sizes, initial=0))
    bits = torch.cat([piece.bits.reshape(-1) for piece in batch])
    at = torch.arange(bits.numel(), device=device)
    mixed = _mix(bits, at + _each_repeated([p.start - b for p, b in zip(batch, begins, strict=False)], sizes, device))
    target = _each_repeated([number * width for number in range(len(batch))], sizes, device)
    owners = [piece.owner.reshape(-1) for piece in batch if piece.owner is not None]
    target = target + torch.cat(owners) if owners else target.expand(at.shape)
    if lanes > 1:
        target = target * lanes + (at & (lanes - 1))
    found = torch.zeros(len(batch) * width * lanes, dtype=torch.int64, device=device).index_add_(0, target, mixed)
    return found.reshape(len(batch), width, lanes).sum(2)


def _each_repeated(numbers: list[int], times: list[int], device: torch.device) -> Tensor:
    """Returns int64: each number as often as said, or a single one once, which torch spreads faster."""
    if len(numbers) == 1:
        return torch.tensor(numbers, device=device)
    repeats = torch.tensor(times, device=device)
    return torch.tensor(numbers, device=device).repeat_interleave(repeats, output_size=sum(times))


def _mix(bits: Tensor, index: Tensor) -> Tensor:
    """Returns int64 where :func:`_add` has uint64: torch has no unsigned arithmetic, and shifts the sign in."""
    mixed = (index + 1).mul_(_signed(_GAMMA)).add_(bits)
    mixed = (mixed ^ _shifted(mixed, 30)).mul_(_signed(_FIRST))
    mixed = (mixed ^ _shifted(mixed, 27)).mul_(_signed(_SECOND))
    return mixed ^ _shifted(mixed, 31)


def _shifted(numbers: Tensor, by: int) -> Tensor:
    return (numbers >> by).bitwise_and_((1 << (64 - by)) - 1)


def _signed(number: np.uint64) -> int:
    return int(number.astype(np.int64))
