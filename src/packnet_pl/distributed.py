"""Collective operations of the processes of one run: broadcast, sum, barrier."""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["broadcast_", "is_distributed", "rank_and_world_size", "sum_", "wait_for_all"]


def is_distributed() -> bool:
    """Returns whether this is one of several processes of a torch.distributed group."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


@torch.no_grad()
def broadcast_(tensors: Iterable[Tensor]) -> None:
    """Overwrites ``tensors``, bit for bit, with those of the process of rank 0. Every process must call it alike.

    Tensors may lie on the CPU also where the processes talk over GPUs (NCCL).
    """
    if not is_distributed():
        return
    device = _device()
    for tensor in tensors:
        target = torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor.detach()
        values = target.reshape(-1).contiguous().view(torch.uint8)
        sent = values.to(device) if device else values.clone()
        dist.broadcast(sent, src=0)
        target.copy_(sent.to(target.device).view(target.dtype).reshape(target.shape))


def rank_and_world_size() -> tuple[int, int]:
    """Returns this process's rank and the number of processes; (0, 1) without a group."""
    return (dist.get_rank(), dist.get_world_size()) if is_distributed() else (0, 1)


def sum_(counts: Tensor) -> Tensor:
    """Sums counts over all processes, in place, and returns them. Every process must call it alike.

    Args:
        counts: int64, which is exact, or float64; on the CPU.
    """
    if is_distributed():
        device = _device()
        sent = counts.to(device) if device else counts
        dist.all_reduce(sent)
        counts.copy_(sent)
    return counts


def wait_for_all() -> None:
    """Waits until every process of the group has called it; returns at once without a group."""
    if dist.is_available() and dist.is_initialized():
        dist.barrier()


def _device() -> torch.device | None:
    """Returns where the processes talk over NCCL, or None where they talk over the CPU."""
    return torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else None
