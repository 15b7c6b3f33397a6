"""Tensors as the bits they are made of: equal means equal to the last bit, also for -0.0 and NaN."""

import torch
from torch import Tensor

__all__ = ["as_integers", "identity", "parts", "same_bits"]

_INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


def as_integers(tensor: Tensor) -> Tensor:
    """Returns the memory of ``tensor`` as integers of the same width, sharing storage (complex: one dimension more)."""
    if torch.is_grad_enabled():  # else it takes half the time for nothing
        tensor = tensor.detach()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    return tensor.view(_INTEGERS[tensor.element_size()])


def parts(tensor: Tensor) -> list[Tensor]:
    """Returns the dense tensors that ``tensor`` consists of: itself, or indices and values of a sparse one."""
    tensor = tensor.detach()
    if tensor.layout == torch.strided:
        return [tensor]
    if tensor.layout == torch.sparse_coo:
        tensor = tensor.coalesce()
        return [tensor.indices(), tensor.values()]
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]


def same_bits(left: Tensor, right: Tensor) -> bool:
    """Returns whether two tensors are of the same type, layout and shape, and hold the same bits."""
    if (left.dtype, left.layout, left.shape) != (right.dtype, right.layout, right.shape):
        return False
    pairs = zip(parts(left), parts(right), strict=True)
    return all(a.shape == b.shape and torch.equal(as_integers(a), as_integers(b.to(a.device))) for a, b in pairs)


def identity(tensor: Tensor) -> object:
    """Returns what two tensors have in common if and only if they are the same memory seen in the same way."""
    if tensor.layout != torch.strided or tensor.device.type == "meta" or not tensor.numel():
        return id(tensor)
    return tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype
