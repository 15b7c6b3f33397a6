"""Chooses a few filters of a network to look at, and reads what their weights are, and whose."""

from collections.abc import Iterable, Mapping, Sequence
from math import prod

import torch
from torch import Tensor

from packnet_pl.core.packnet import PackNet
from packnet_pl.core.shards import rows_of, with_shards
from packnet_pl.filter_history import FilterSnapshot, Moment, WatchedFilter

__all__ = ["choose_filters", "take_snapshot"]

_KERNEL_SIDES = range(3, 12)
"""Kernels that are worth looking at, in pixels: larger ones, such as a transformer's patches, are no grid to read."""

_BLOCK = 5
"""Rows and columns that are shown of a weight that has no kernels."""

_PER_LAYER = 4


def choose_filters(packnet: PackNet) -> list[WatchedFilter]:
    """Returns the filters to watch: four of each of the first, the middle and the last layer that has kernels.

    The choice depends on names and shapes alone, so that nothing is picked for its looks. They are spread evenly over
    the output channels, and look at the first input channel. Where no layer has kernels of 3 x 3 to 11 x 11, they are
    blocks of 5 x 5 weights of matrices.

    Args:
        packnet: Of the network.
    """
    weights = {name: slot.whole for name, slot in packnet.inventory().owned.items()}
    kernels = {name: tuple(weight.shape) for name, weight in weights.items() if _has_kernels(weight)}
    if kernels:
        return _once(_kernel(name, kernels[name], part) for name in _spread(kernels) for part in range(_PER_LAYER))
    matrices = {name: _matrix_shape(weight) for name, weight in weights.items() if weight.dim() >= 2 and weight.numel()}
    return _once(_block(name, matrices[name], part) for name in _spread(matrices) for part in range(_PER_LAYER))


@torch.no_grad()
def take_snapshot(packnet: PackNet, filters: Sequence[WatchedFilter], task: str, moment: Moment) -> FilterSnapshot:
    """Returns the weights and owners of ``filters`` as they are now.

    Of a sharded network, every process must call it alike.

    Args:
        packnet: Of the network, while a task is open or between tasks.
        filters: What :func:`choose_filters` returned, or others.
        task: The task that the snapshot is of.
        moment: Which one of its moments this is.

    Raises:
        ValueError: If a filter is not in the network, or no task owns weights of its layer.
    """
    owned = packnet.inventory().owned
    state = packnet.state
    weights = {watched.layer: owned[watched.layer].whole for watched in filters if watched.layer in owned}
    owner_maps = {name: with_shards(state.owners[name], weight) for name, weight in weights.items()}
    values = [_grid(watched, weights) for watched in filters]
    owners = [_grid(watched, owner_maps) for watched in filters]
    return FilterSnapshot(
        task=task,
        moment=moment,
        values=tuple(tuple(map(tuple, grid.double().tolist())) for grid in values),
        owners=tuple(tuple(map(tuple, grid.tolist())) for grid in owners),
        tasks=tuple(state.names),
    )


def _grid(watched: WatchedFilter, tensors: Mapping[str, Tensor]) -> Tensor:
    tensor, (rows, columns) = tensors.get(watched.layer), watched.size
    if tensor is None:
        raise ValueError(f"no task can own weights of {watched.layer!r}; layers that have owners are {list(tensors)}")
    if _has_kernels(tensor):
        fits = len(watched.index) == tensor.dim() - 2 and watched.size == tuple(tensor.shape[-2:])
        if fits and all(0 <= at < size for at, size in zip(watched.index, tensor.shape, strict=False)):
            first, *others = watched.index
            return rows_of(tensor, first, 1)[(0, *others)].detach().cpu()
    elif tensor.dim() >= 2 and len(watched.index) == 2:
        shape, (row, column) = _matrix_shape(tensor), watched.index
        if row >= 0 and column >= 0 and row + rows <= shape[0] and column + columns <= shape[1]:
            return rows_of(tensor, row, rows).flatten(1)[:, column : column + columns].detach().cpu()
    raise ValueError(f"{watched} is not in that weight, whose shape is {tuple(tensor.shape)}")


def _has_kernels(weight: Tensor) -> bool:
    return weight.dim() >= 4 and all(side in _KERNEL_SIDES for side in weight.shape[-2:]) and weight.numel() > 0


def _matrix_shape(weight: Tensor) -> tuple[int, int]:
    return weight.shape[0], prod(weight.shape[1:])


def _spread(names: Mapping[str, object]) -> list[str]:
    """Returns the first, the middle and the last of ``names``, each once."""
    listed = list(names)
    return list(dict.fromkeys(listed[at] for at in (0, len(listed) // 2, len(listed) - 1))) if listed else []


def _once(filters: Iterable[WatchedFilter]) -> list[WatchedFilter]:
    """Returns ``filters`` without repetitions, as layers of fewer than four outputs would give."""
    return list({(watched.layer, watched.index): watched for watched in filters}.values())


def _kernel(layer: str, shape: Sequence[int], part: int) -> WatchedFilter:
    output = part * shape[0] // _PER_LAYER
    return WatchedFilter(layer, (output, *[0] * (len(shape) - 3)), (shape[-2], shape[-1]))


def _block(layer: str, shape: Sequence[int], part: int) -> WatchedFilter:
    rows, columns = min(_BLOCK, shape[0]), min(_BLOCK, shape[1])
    return WatchedFilter(layer, (part * (shape[0] - rows) // (_PER_LAYER - 1), 0), (rows, columns))
