"""Cryptographic hashes of tensors: what a packed file has of each, and what states had for fingerprints."""

import hashlib

import torch
from torch import Tensor

from packnet_pl.core.bits import as_integers, parts
from packnet_pl.core.entries import select
from packnet_pl.core.shards import whole_of, with_shards

__all__ = ["content_hash", "hash_of_owned", "is_hash"]

_BYTES = 16


def content_hash(tensor: Tensor) -> str:
    """Returns the type of ``tensor`` and a 128-bit BLAKE2b hash of its values in row-major order, bit for bit.

    For example "float32:9f86d081884c7d659a2feaa0c55ad015", as a packed file has of each tensor. States of format 3 and
    before have it for fingerprints too. A sharded tensor is gathered: every process must call it alike.
    """
    digest = hashlib.blake2b(digest_size=_BYTES)
    tensor = whole_of(tensor)
    for part in parts(tensor):
        values = torch.view_as_real(part) if part.is_complex() else part
        if not values.numel():
            continue  # empty memory may have strides that cannot be seen as bytes
        digest.update(values.reshape(-1).contiguous().cpu().view(torch.uint8).numpy().data)
    return f"{str(tensor.dtype).removeprefix('torch.')}:{digest.hexdigest()}"


def hash_of_owned(weight: Tensor, owner: Tensor, task: int) -> str:
    """Returns :func:`content_hash` of ``weight[owner == task]``."""
    weight, owner = whole_of(weight), whole_of(with_shards(owner, weight))
    if weight.device.type != "cpu":
        return content_hash(weight[owner == task])
    values = select(as_integers(weight).reshape(-1).numpy(), owner.reshape(-1).numpy() == task)
    return content_hash(torch.from_numpy(values).view(weight.dtype))


def is_hash(of_tensor: str) -> bool:
    """Returns whether a fingerprint is a :func:`content_hash`."""
    return len(of_tensor.rpartition(":")[2]) == 2 * _BYTES
