"""The tensors of a state as a sharded network has them: in memory the rows of this process, in checkpoints shards."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from packnet_pl.core.packed_bits import pack_mask, packed_size, unpack_mask
from packnet_pl.core.shards import is_shard, localized, own_part, with_shards
from packnet_pl.core.state import State

__all__ = ["in_shards", "of_rows"]


def in_shards(state: State, tensors: Mapping[str, Tensor]) -> State:
    """Returns the state whose tensors are sharded as the module's are: to be saved, as each process has its rows.

    Masks of sharded weights are bools then, sharded as these: bits would not end where rows do.

    Args:
        state: With this process's rows.
        tensors: Name -> tensor of which tasks have something of their own, whole or sharded.
    """
    state = _with_each(state, lambda tensor, name: with_shards(tensor, tensors[name]))
    return _with_masks(state, lambda mask, name: _mask_in_shards(mask, tensors[name]))


def of_rows(state: State, tensors: Mapping[str, Tensor]) -> State:
    """Returns the state with this process's rows of all that is whole or sharded in the given one.

    Args:
        state: As it was loaded; it may be malformed still.
        tensors: As above.
    """
    state = _with_each(state, lambda tensor, name: localized(tensor, tensors[name]) if name in tensors else tensor)
    return _with_masks(state, lambda mask, name: _mask_of_rows(mask, tensors[name]) if name in tensors else mask)


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


def _with_masks(state: State, change: Callable[[Tensor, str], Tensor]) -> State:
    masks = {task: {name: change(of, name) for name, of in mask.items()} for task, mask in state.masks.items()}
    return replace(state, masks=masks)


def _mask_in_shards(packed: Tensor, weight: Tensor) -> Tensor:
    if not is_shard(weight):
        return packed
    part = own_part(weight)
    return with_shards(unpack_mask(packed, part.shape).to(part.device), weight)


def _mask_of_rows(mask: Tensor, weight: Tensor) -> Tensor:
    """Returns this process's rows, packed, of a mask that is packed, or bools of the weight's shape."""
    if not isinstance(mask, Tensor):
        return mask
    if mask.dtype == torch.bool and mask.shape == weight.shape:
        return pack_mask(localized(mask, weight))
    if is_shard(weight) and mask.dtype == torch.uint8 and mask.shape == (packed_size(weight.shape),):
        return pack_mask(localized(unpack_mask(mask, weight.shape), weight))
    return mask
