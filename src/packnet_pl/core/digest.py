"""Fingerprints of what finished tasks use, to notice a change from outside and name it."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

__all__ = ["fingerprint", "task_fingerprints"]


def fingerprint(tensor: Tensor) -> str:
    """Returns a 128-bit BLAKE2b hash (hex) of the values of ``tensor`` in row-major order, bit for bit."""
    flat = tensor.detach().reshape(-1).contiguous().cpu().view(torch.uint8)
    return hashlib.blake2b(flat.numpy().data, digest_size=16).hexdigest()


def task_fingerprints(
    weights: Mapping[str, Tensor], owners: Mapping[str, Tensor], task: int, fixed: Mapping[str, Tensor]
) -> dict[str, str]:
    """Returns name -> fingerprint of the weights that ``task`` (1 to 255) owns and of every tensor in ``fixed``."""
    marks = {name: fingerprint(weight.detach()[owners[name] == task]) for name, weight in weights.items()}
    return marks | {name: fingerprint(tensor) for name, tensor in fixed.items()}
