"""Masks as bits, eight in a byte: a mask over all weights takes an eighth of what bools take."""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

__all__ = ["pack_mask", "packed_size", "unpack_mask"]


def pack_mask(mask: Tensor) -> Tensor:
    """Returns ``mask`` (bool) as bits (uint8, 1-D, on the CPU).

    Row-major, the first entry is the highest bit; the last byte is filled up with zeros.
    """
    return torch.from_numpy(np.packbits(mask.reshape(-1).cpu().numpy()))


def unpack_mask(packed: Tensor, shape: Sequence[int]) -> Tensor:
    """Returns the mask (bool, of ``shape``, on the CPU) that :func:`pack_mask` packed."""
    bits = np.unpackbits(packed.cpu().numpy(), count=math.prod(shape))
    return torch.from_numpy(bits).view(torch.bool).reshape(tuple(shape))


def packed_size(shape: Sequence[int]) -> int:
    """Returns how many bytes a mask of ``shape`` takes."""
    return -(-math.prod(shape) // 8)
