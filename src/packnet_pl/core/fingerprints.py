"""Fingerprints of what finished tasks use, to notice a change from outside and name it."""

from collections.abc import Hashable, Mapping
from typing import TypeVar

from torch import Tensor

from packnet_pl.core.mixed_sums import sums, sums_by_owner
from packnet_pl.core.shards import Stretch

__all__ = ["fingerprints", "owned_fingerprints", "task_fingerprints", "type_of"]

_Key = TypeVar("_Key", bound=Hashable)


def fingerprints(tensors: Mapping[_Key, Tensor | Stretch]) -> dict[_Key, str]:
    """Returns the fingerprint of each tensor: its type, and the sum of its entries' bits, mixed with their indices.

    For example "float32:9f86d081884c7d65": :func:`packnet_pl.core.mixed_sums.sums`, as 16 hexadecimal digits.
    """
    return {key: _written(tensors[key], total) for key, total in sums(tensors).items()}


def owned_fingerprints(weights: Mapping[str, Tensor], owners: Mapping[str, Tensor], tasks: int) -> list[dict[str, str]]:
    """Returns, for each of the first ``tasks`` tasks, name -> fingerprint of the weights that it owns in a tensor.

    An entry counts with its index in the whole tensor. One pass over the weights, however many tasks there are.
    """
    totals = sums_by_owner(weights, owners)
    return [
        {name: _written(weight, totals[name][number]) for name, weight in weights.items()}
        for number in range(1, tasks + 1)
    ]


def task_fingerprints(
    weights: Mapping[str, Tensor], owners: Mapping[str, Tensor], task: int, fixed: Mapping[str, Tensor | Stretch]
) -> dict[str, str]:
    """Returns name -> fingerprint of the weights that ``task`` (1 to 255) owns and of every tensor in ``fixed``."""
    return owned_fingerprints(weights, owners, task)[-1] | fingerprints(fixed)


def type_of(of_tensor: str) -> str:
    """Returns the type that a fingerprint says, such as "float32"."""
    return of_tensor.partition(":")[0]


def _written(tensor: Tensor | Stretch, total: int) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')}:{total:016x}"
