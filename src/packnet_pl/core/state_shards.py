"""The tensors of a state as a sharded network has them: in memory the rows of this process, in checkpoints shards."""

from collections.abc import Callable, Mapping
from dataclasses import replace

from torch import Tensor

from packnet_pl.core.shards import localized, with_shards
from packnet_pl.core.state import State

__all__ = ["in_shards", "of_rows"]


def in_shards(state: State, tensors: Mapping[str, Tensor]) -> State:
    """Returns the state whose tensors are sharded as the module's are: to be saved, as each process has its rows.

    Args:
        state: With this process's rows.
        tensors: Name -> tensor of which tasks have something of their own, whole or sharded.
    """
    return _with_each(state, lambda tensor, name: with_shards(tensor, tensors[name]))


def of_rows(state: State, tensors: Mapping[str, Tensor]) -> State:
    """Returns the state with this process's rows of all that is whole or sharded in the given one.

    Args:
        state: As it was loaded; it may be malformed still.
        tensors: As above.
    """
    return _with_each(state, lambda tensor, name: localized(tensor, tensors[name]) if name in tensors else tensor)


def _with_each(state: State, change: Callable[[Tensor, str], Tensor]) -> State:
    def changed(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: change(tensor, name) for name, tensor in tensors.items()}

    sums = state.accumulators
    return replace(
        state,
        owners=changed(state.owners),
        copies={task: changed(copies) for task, copies in state.copies.items()},
        trained_rows=changed(state.trained_rows),
        accumulators=None if sums is None else replace(sums, sums=changed(sums.sums)),
    )
