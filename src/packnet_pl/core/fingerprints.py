"""Fingerprints of what finished tasks use, to notice a change from outside and name it."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

from packnet_pl.core.bits import as_integers, parts
from packnet_pl.core.entries import select

__all__ = ["fingerprint", "task_fingerprints", "type_of"]


def fingerprint(tensor: Tensor) -> str:
    """Returns the type of ``tensor`` and a 128-bit BLAKE2b hash of its values in row-major order, bit for bit.

    For example "float32:9f86d081884c7d659a2feaa0c55ad015".
    """
    digest = hashlib.blake2b(digest_size=16)
    for part in parts(tensor):
        values = torch.view_as_real(part) if part.is_complex() else part
        if not values.numel():
            continue  # empty memory may have strides that cannot be seen as bytes
        digest.update(values.reshape(-1).contiguous().cpu().view(torch.uint8).numpy().data)
    return f"{str(tensor.dtype).removeprefix('torch.')}:{digest.hexdigest()}"


def task_fingerprints(
    weights: Mapping[str, Tensor], owners: Mapping[str, Tensor], task: int, fixed: Mapping[str, Tensor]
) -> dict[str, str]:
    """Returns name -> fingerprint of the weights that ``task`` (1 to 255) owns and of every tensor in ``fixed``."""
    found = {name: fingerprint(_owned(weight.detach(), owners[name], task)) for name, weight in weights.items()}
    return found | {name: fingerprint(tensor) for name, tensor in fixed.items()}


def type_of(of_tensor: str) -> str:
    """Returns the type that a fingerprint says, such as "float32"."""
    return of_tensor.partition(":")[0]


def _owned(weight: Tensor, owner: Tensor, task: int) -> Tensor:
    """Returns ``weight[owner == task]``."""
    if weight.device.type != "cpu":
        return weight[owner == task]
    values = select(as_integers(weight).reshape(-1).numpy(), owner.reshape(-1).numpy() == task)
    return torch.from_numpy(values).view(weight.dtype)
