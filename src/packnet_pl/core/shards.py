"""Tensors of which each process has a part: rows of dimension 0, as torch's ``fully_shard`` divides them.

Owners, masks and frozen values are entry by entry, so each process keeps those of its own rows and no others. Where a
whole counts (how many weights are free, which are the smallest, what a fingerprint sums up), processes add up numbers.
"""

import math
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

if TYPE_CHECKING:
    from torch.distributed.device_mesh import DeviceMesh
    from torch.distributed.tensor import DTensor

__all__ = [
    "Processes",
    "Stretch",
    "align_gradients_",
    "first_index",
    "is_shard",
    "localized",
    "own_part",
    "part_sizes",
    "processes_of",
    "reshard_",
    "rows_of",
    "whole_of",
    "why_not_rows",
    "with_shards",
]


_INTEGERS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
"""Bytes of an entry -> integers of that size."""


@dataclass(frozen=True)
class Processes:
    """Those among which the rows of tensors are divided, in the order of the rows.

    Each method must be called by all of them alike.

    Attributes:
        mesh: All processes.
        dimension: Of the mesh, along which rows are divided; along others they are copied.
    """

    mesh: "DeviceMesh"
    dimension: int

    @property
    def rank(self) -> int:
        """Place of this process among them, from 0."""
        return self.mesh.get_local_rank(self.dimension)

    @property
    def size(self) -> int:
        """How many they are."""
        return self.mesh.size(self.dimension)

    def sum(self, counts: Tensor) -> Tensor:
        """Returns the sum over all processes.

        Args:
            counts: int64, on any device; sums beyond its range wrap around.
        """
        sent = counts.to(self.mesh.device_type, copy=True)
        dist.all_reduce(sent, group=self.mesh.get_group(self.dimension))
        return sent.to(counts.device)

    def of_each(self, counts: Tensor) -> Tensor:
        """Returns the counts of each process: one dimension more, in front.

        Args:
            counts: int64, of the same shape in each.
        """
        table = torch.zeros(self.size, *counts.shape, dtype=torch.int64, device=counts.device)
        table[self.rank] = counts
        return self.sum(table)

    @torch.no_grad()
    def copy_first_(self, tensors: Iterable[Tensor]) -> None:
        """Overwrites plain tensors, bit for bit, with those of the first process of the mesh."""
        for tensor in tensors:
            sent = tensor.detach().reshape(-1).contiguous().view(torch.uint8).to(self.mesh.device_type, copy=True)
            for dimension in range(self.mesh.ndim):
                group = self.mesh.get_group(dimension)
                dist.broadcast(sent, group_src=0, group=group)
            tensor.detach().copy_(sent.to(tensor.device).view(tensor.dtype).reshape(tensor.shape))

    def any(self, is_true: bool) -> bool:
        """Returns whether it is true in at least one process."""
        return bool(self.sum(torch.tensor(int(is_true))))


@dataclass(frozen=True)
class Stretch:
    """Entries of a 1-D tensor that follow each other; other processes have the others.

    Attributes:
        start: Index of the first in the whole.
        part: These entries.
        processes: That have all of them together.
    """

    start: int
    part: Tensor
    processes: Processes

    @property
    def dtype(self) -> torch.dtype:
        """Of the entries."""
        return self.part.dtype


def is_shard(tensor: object) -> bool:
    """Returns whether processes have parts of ``tensor``: it is a ``DTensor``."""
    loaded = sys.modules.get("torch.distributed.tensor")  # nobody has one without it
    return loaded is not None and isinstance(tensor, loaded.DTensor)


def own_part(tensor: Tensor) -> Tensor:
    """Returns the part of ``tensor`` that this process has, sharing its memory: a plain one is its own."""
    # to_local() makes a new tensor where gradients are recorded.
    return tensor._local_tensor if is_shard(tensor) else tensor  # type: ignore[attr-defined]


def why_not_rows(tensor: "DTensor") -> str | None:
    """Returns why a part of ``tensor`` is not some rows of it; None if it is."""
    from torch.distributed.tensor import Replicate, Shard

    rows = [placement for placement in tensor.placements if placement == Shard(0) and type(placement) is Shard]
    others = [placement for placement in tensor.placements if placement not in rows]
    if len(rows) != 1 or not all(isinstance(placement, Replicate) for placement in others):
        return (
            f"it is sharded as {list(tensor.placements)}: only rows can be divided among processes, once: Shard(0), "
            "and Replicate() along other dimensions of the mesh"
        )
    if not tensor._local_tensor.is_contiguous():
        return "its shard is not contiguous"
    return None


def processes_of(tensors: Iterable[Tensor]) -> Processes | None:
    """Returns the processes that have the rows of those that are sharded; None if none is.

    Raises:
        ValueError: If they are not the same for all of them.
    """
    found: Processes | None = None
    for tensor in tensors:
        if is_shard(tensor):
            held: Any = tensor
            now = Processes(held.device_mesh, next(i for i, p in enumerate(held.placements) if p.is_shard()))
            if found is not None and found != now:
                raise ValueError(
                    f"tensors are sharded over {found.mesh} and over {now.mesh}: shard all of them over one mesh"
                )
            found = now
    return found


def own_rows(rows: int, processes: Processes) -> slice:
    """Returns which of the ``rows`` of a tensor this process has."""
    return _rows_of(processes.rank, rows, processes.size)


def _rows_of(rank: int, rows: int, size: int) -> slice:
    """Returns which rows one of ``size`` processes has: as ``torch.chunk`` divides them."""
    step = -(-rows // size)
    first = min(rank * step, rows)
    return slice(first, min(first + step, rows))


def part_sizes(tensor: Tensor, processes: Processes) -> list[int]:
    """Returns how many entries of ``tensor``, which has rows, each of the ``processes`` has."""
    of_each = (_rows_of(rank, tensor.shape[0], processes.size) for rank in range(processes.size))
    return [(rows.stop - rows.start) * math.prod(tensor.shape[1:]) for rows in of_each]


def first_index(tensor: Tensor) -> int:
    """Returns the row-major index, in the whole tensor, of the first entry of the part that this process has."""
    processes = processes_of([tensor])
    if processes is None:
        return 0
    # By its shape: to slice a sharded tensor gathers all of it.
    return own_rows(tensor.shape[0], processes).start * math.prod(tensor.shape[1:]) if tensor.dim() else 0


def whole_of(tensor: Tensor) -> Tensor:
    """Returns the whole of a sharded tensor, gathered: every process must call it alike; a plain one as it is."""
    if not is_shard(tensor):
        return tensor
    held: Any = tensor
    # Where parts are kept in the CPU's memory, processes still talk by their GPUs.
    whole: Tensor = held.to(held.device_mesh.device_type).full_tensor()
    return whole


def rows_of(tensor: Tensor, first: int, count: int) -> Tensor:
    """Returns some rows of a tensor as a plain one; if it is sharded, every process must call it alike.

    Args:
        tensor: Whole or sharded, of 64 bits an entry or fewer.
        first: Index of the first of them.
        count: How many.
    """
    processes = processes_of([tensor])
    if processes is None:
        return tensor[first : first + count]
    part, own = own_part(tensor).detach(), own_rows(tensor.shape[0], processes)
    found = torch.zeros(count, *tensor.shape[1:], dtype=part.dtype, device=part.device)
    begin, end = max(first, own.start), min(first + count, own.stop)
    if begin < end:
        found[begin - first : end - first] = part[begin - own.start : end - own.start]
    bits = found.view(_INTEGERS[found.element_size()])  # all others have zeros
    return processes.sum(bits.to(torch.int64)).to(bits.dtype).view(part.dtype)


def with_shards(part: Tensor, like: Tensor) -> Tensor:
    """Returns a ``DTensor`` of which this process has ``part``, with the rows of ``like``; plain if ``like`` is."""
    if not is_shard(like):
        return part
    from torch.distributed.tensor import DTensor

    held: Any = like
    shape = torch.Size([held.shape[0], *part.shape[1:]])
    stride = torch.empty(shape, device="meta").stride()
    return DTensor.from_local(part, held.device_mesh, held.placements, run_check=False, shape=shape, stride=stride)


def localized(tensor: Tensor, like: Tensor) -> Tensor:
    """Returns the part of ``tensor`` that belongs to this process's part of ``like``.

    Args:
        tensor: Whole, or sharded in any way; rows as ``like`` has them.
        like: A tensor of the network. If ``tensor`` is sharded, every process must call it alike.
    """
    if not isinstance(tensor, Tensor):
        return tensor
    if is_shard(tensor):
        given: Any = tensor
        held: Any = like
        if is_shard(like) and (given.device_mesh, given.placements) == (held.device_mesh, held.placements):
            return own_part(tensor)
        tensor = whole_of(given)
    processes = processes_of([like])
    if processes is None or tensor.shape[:1] != like.shape[:1]:
        return tensor
    return tensor[own_rows(len(tensor), processes)].clone()


def align_gradients_(tensors: Iterable[Tensor]) -> None:
    """Divides gradients among processes as their tensors are; tensor parallelism may leave one whole, or to be summed.

    Args:
        tensors: Whole or sharded; every process must call it alike.
    """
    for tensor in tensors:
        held: Any = tensor
        if is_shard(held) and is_shard(held.grad) and held.grad.placements != held.placements:
            held.grad = held.grad.redistribute(placements=held.placements)


def reshard_(module: nn.Module) -> None:
    """Frees what ``fully_shard`` has gathered for a forward pass in ``module``: each process has its rows again."""
    loaded = sys.modules.get("torch.distributed.fsdp")
    if loaded is not None:
        for part in module.modules():
            if isinstance(part, loaded.FSDPModule):
                part.reshard()
