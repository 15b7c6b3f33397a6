"""Packs and unpacks the weights of one layer: the values that are owned, in a row, their coded owners, and masks."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from packnet_pl.core.bits import as_integers
from packnet_pl.core.entries import select, spread
from packnet_pl.core.ownership import FREE, visible
from packnet_pl.core.packed_bits import pack_mask, unpack_mask
from packnet_pl.packed.owner_coding import decode_owners, encode_owners

__all__ = ["code_mask", "decode_mask", "pack_weights", "unpack_owners", "unpack_weights"]


def pack_weights(weight: Tensor, owner: Tensor, counts: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Returns the values that are owned (1-D, row-major order) and the coded owner map (uint8, 1-D).

    Args:
        weight: Of any shape, on the CPU, contiguous.
        owner: uint8, the same shape, likewise.
        counts: Number of weights of each owner, owner 0 (free) first.
    """
    owners = owner.reshape(-1).numpy()
    values = torch.from_numpy(select(as_integers(weight).reshape(-1).numpy(), owners != FREE))
    coded = np.frombuffer(bytearray(encode_owners(owners, counts)), np.uint8)
    return values.view(weight.dtype), torch.from_numpy(coded)


def unpack_owners(layer: Mapping[str, Any], coded: Tensor) -> Tensor:
    """Returns the owner map.

    Args:
        layer: ``shape`` and ``counts``, as the header has them.
        coded: From :func:`pack_weights`.

    Raises:
        ValueError: If they do not belong together.
    """
    owners = decode_owners(coded.numpy().tobytes(), layer["counts"])
    return torch.from_numpy(owners).reshape(layer["shape"])


def unpack_weights(layer: Mapping[str, Any], values: Tensor, owner: Tensor) -> Tensor:
    """Returns the weights, zero where they are free.

    Args:
        layer: ``dtype``, as the header has it.
        values: From :func:`pack_weights`, perhaps of another precision.
        owner: From :func:`unpack_owners`.
    """
    weight = torch.zeros(owner.shape, dtype=getattr(torch, layer["dtype"]))
    numbers = as_integers(values.to(weight.dtype)).numpy()
    spread(as_integers(weight).reshape(-1).numpy(), owner.reshape(-1).numpy() != FREE, numbers)
    return weight


def code_mask(packed: Tensor, owner: Tensor, number: int, unused: int) -> Tensor:
    """Returns a task's mask (uint8, 1-D) over what earlier tasks own, coded as owner maps are.

    Args:
        packed: What it does not use, from :func:`packnet_pl.core.packed_bits.pack_mask`.
        owner: Owner map (uint8, the weight's shape), on the CPU, contiguous.
        number: Of the task, 2 to 255.
        unused: How many weights it does not use.
    """
    used = unpack_mask(packed, (owner.numel(),)).logical_not().numpy().view(np.uint8)
    frozen = select(used, visible(owner.reshape(-1), number - 1).numpy())
    coded = encode_owners(frozen, [unused, frozen.size - unused])
    return torch.from_numpy(np.frombuffer(bytearray(coded), np.uint8)) if coded else torch.empty(0, dtype=torch.uint8)


def decode_mask(coded: Tensor, owner: Tensor, number: int, unused: int) -> Tensor:
    """Returns the packed mask that :func:`code_mask` coded; arguments as there.

    Raises:
        ValueError: If they do not belong together.
    """
    frozen = visible(owner.reshape(-1), number - 1).numpy()
    used = decode_owners(coded.numpy().tobytes(), [unused, int(np.count_nonzero(frozen)) - unused])
    mask = np.zeros(frozen.size, np.uint8)
    spread(mask, frozen, used ^ np.uint8(1))
    return pack_mask(torch.from_numpy(mask.view(np.bool_)))
