"""Checks whether there is room for one more task."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from packnet_pl.capacity import MAX_TASKS
from packnet_pl.core.ownership import FREE, counts_in_all
from packnet_pl.core.shards import Processes

__all__ = ["CapacityError", "check_room"]


class CapacityError(RuntimeError):
    """There is no free weight, or no free task number, for another task."""


def check_room(
    task: str,
    tasks: Sequence[str],
    owners: Mapping[str, Tensor],
    network: str,
    prunable: str,
    processes: Processes | None = None,
) -> None:
    """Raises unless a weight and a task number are free.

    Args:
        task: To be begun.
        tasks: The finished ones.
        owners: Parameter name -> owner map.
        network: What the network is called in the message.
        prunable: By which rule it was chosen what has owners, for the message.
        processes: That have the rows of the owner maps; None if maps are whole.

    Raises:
        CapacityError: Otherwise.
    """
    if len(tasks) == MAX_TASKS:
        raise CapacityError(f"cannot begin {task!r}: {MAX_TASKS} tasks are the most that one network can hold")
    weights = sum(owner.numel() for owner in owners.values())
    if processes is not None:
        weights = int(processes.sum(torch.tensor(weights)))
    if not weights:
        raise CapacityError(
            f"cannot begin {task!r}: {network} has no weights to divide among tasks by prunable={prunable!r}; "
            "PackNet(..., prunable=...) takes 'weights', 'paper', 'all' or a function of name, module and parameter"
        )
    is_room = any(bool((owner == FREE).any()) for owner in owners.values())
    if not (is_room if processes is None else processes.any(is_room)):
        counts = torch.tensor([*counts_in_all(owners, len(tasks), processes).values()]).sum(0)
        taken = ", ".join(f"{name!r} {count:,}" for name, count in zip(tasks, counts.tolist()[1:], strict=True))
        raise CapacityError(
            f"cannot begin {task!r}: no weight is free, and it needs one at least; all {weights:,} prunable ones are "
            f"taken ({taken}): prune every task that others follow with a ratio above 0, or make room with grow=1.25 "
            "(in a script PackNet.grow), which widens the layers"
        )
