"""The same bits in every process: what the first one has is what all have."""

from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import Tensor

__all__ = ["broadcast_", "is_distributed"]


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
    device = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else None
    for tensor in tensors:
        target = torch.view_as_real(tensor.detach()) if tensor.is_complex() else tensor.detach()
        values = target.reshape(-1).contiguous().view(torch.uint8)
        sent = values.to(device) if device else values.clone()
        dist.broadcast(sent, src=0)
        target.copy_(sent.to(target.device).view(target.dtype).reshape(target.shape))
