"""How much room there is: for one more task now, and for tasks to come before anything is trained."""

from collections.abc import Sequence

from packnet_pl.choices import Scope
from packnet_pl.core.ownership import FREE, MAX_TASKS
from packnet_pl.core.state import State

__all__ = ["CapacityError", "check_room", "forecast"]


class CapacityError(RuntimeError):
    """There is no free weight, or no free task number, for another task."""


def check_room(task: str, state: State, network: str) -> None:
    """Does nothing if a weight and a task number are free.

    Args:
        task: To be begun.
        state: With the owners as they are now.
        network: What the network is called in the message.

    Raises:
        CapacityError: Otherwise.
    """
    if len(state.tasks) == MAX_TASKS:
        raise CapacityError(f"cannot begin {task!r}: {MAX_TASKS} tasks are the most that one network can hold")
    weights = sum(owner.numel() for owner in state.owners.values())
    if not weights:
        raise CapacityError(
            f"cannot begin {task!r}: {network} has no weights to divide among tasks (those of convolutions and linear "
            "layers that are not parametrized)"
        )
    if not any(bool((owner == FREE).any()) for owner in state.owners.values()):
        raise CapacityError(
            f"cannot begin {task!r}: no weight is free, all {weights} prunable ones belong to {state.tasks}; prune "
            "every task that others follow with a ratio above 0"
        )


def forecast(layers: Sequence[int], ratios: Sequence[float | None], *, scope: Scope = "layer") -> list[tuple[int, int]]:
    """Returns, for each task, how many units (weights, or whole filters) it will own and how many it will leave.

    The same counts as :meth:`PackNet.prune` gives: each task claims what is free and releases exactly
    ``round(ratio * claimed)``, in each layer or over all of them.

    Args:
        layers: Number of units of each prunable layer that are free now: see
            :func:`packnet_pl.core.pruning.count_units`.
        ratios: Per task, the share that it releases, in [0, 1); None releases nothing.
        scope: "layer" or "global".
    """
    free = list(layers) if scope == "layer" else [sum(layers)]
    shares = []
    for ratio in ratios:
        claimed = sum(free)
        free = [round((ratio or 0) * units) for units in free]
        shares.append((claimed - sum(free), sum(free)))
    return shares
