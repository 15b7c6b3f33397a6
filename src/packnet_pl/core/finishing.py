"""What is kept of a task when it is finished: fingerprints of all that it uses, and copies of what is its own."""

import torch
from torch import nn

from packnet_pl.core.fingerprints import task_fingerprints
from packnet_pl.core.finite import check_all_finite, check_finite
from packnet_pl.core.inventory import Inventory
from packnet_pl.core.narrow import leading
from packnet_pl.core.shards import is_shard
from packnet_pl.core.slots import tensors_in, wholes_in
from packnet_pl.core.state import State
from packnet_pl.core.verification import masks_by_name, private_fingerprints

__all__ = ["finished", "restore_copies_"]


def finished(state: State, inventory: Inventory, root: nn.Module | None) -> State:
    """Returns the state in which the open task is finished.

    Args:
        state: With the open task, whose mask is fixed.
        inventory: The tensors of the shared module, with all that is frozen restored.
        root: The module that has the task's private modules; None leaves them out.

    Raises:
        ValueError: If a tensor that the task uses holds NaN or infinity.
    """
    number = state.open_number("finish_task")
    used = {**inventory.owned, **inventory.frozen, **inventory.per_task}
    # Other buffers may hold infinity on purpose, as attention masks do.
    finite = {name: s.now for name, s in used.items() if s.is_parameter or s.key.startswith("running_")}
    if inventory.processes is None:
        for name, tensor in finite.items():
            check_finite(name, tensor)
    else:
        # Each process has moved statistics of its own.
        inventory.processes.copy_first_(slot.now for slot in inventory.all.values() if not is_shard(slot.whole))
        check_all_finite(finite, inventory.processes)
    own = tensors_in(inventory.per_task)
    # What is shared is the first task's; later tasks use it as it is.
    new = wholes_in(inventory.per_task if state.tasks else {**inventory.frozen, **inventory.per_task})
    weights = wholes_in(inventory.owned)
    masks = masks_by_name(state.masks.get(state.names[-1], {}), weights)
    found = task_fingerprints(weights, state.owners, number, {**new, **masks})
    copies = {name: tensor.detach().clone() for name, tensor in own.items()}
    of_private = None
    if root is not None:
        names = state.private.get(state.names[-1], [])
        of_private = private_fingerprints(root, names, skip=wholes_in(used).values())
    return state.finish(found, copies, of_private)


@torch.no_grad()
def restore_copies_(state: State, inventory: Inventory) -> None:
    """Restores the norms and biases that the last finished task has of its own."""
    copies = state.copies[state.tasks[-1]] if state.tasks else {}
    for name, value in copies.items():
        leading(inventory.per_task[name].now.detach(), value.shape).copy_(value)
