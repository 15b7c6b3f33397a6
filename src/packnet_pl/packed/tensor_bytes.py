"""Tensors as the bytes that files have of them."""

from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["bytes_of", "tensor_of"]


def bytes_of(tensor: Tensor) -> memoryview:
    """Returns the entries of a tensor on the CPU, in row-major order: its memory, if it is contiguous."""
    entries = tensor.detach().contiguous().as_strided((tensor.numel(),), (1,))
    content: memoryview = entries.view(torch.uint8).numpy().data
    return content


def tensor_of(content: bytearray, dtype: torch.dtype, shape: Sequence[int]) -> Tensor:
    """Returns ``content`` as a tensor, sharing memory."""
    flat = torch.frombuffer(content, dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)
    return flat.view(dtype).reshape(shape)
