"""Whole filters (output channels) of a layer: as rows, their norms, and back to weights."""

import torch
from torch import Tensor, nn

__all__ = ["filter_norms", "filter_rows", "owned_filters", "spread_filters"]

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def filter_rows(layer: nn.Module, tensor: Tensor) -> Tensor:
    """Returns one row per output channel of ``layer``.

    Args:
        layer: A convolution, transposed convolution or linear layer.
        tensor: Of the shape of its weight: the weight itself, or a map of it.
    """
    if not isinstance(layer, _TRANSPOSED):
        return tensor.flatten(1)
    # Here the weight is in x out/groups x kernel, and the channels of a group see only that group's inputs.
    parts = tensor.reshape(layer.groups, tensor.shape[0] // layer.groups, tensor.shape[1], -1)
    return parts.transpose(1, 2).flatten(0, 1).flatten(1)


def filter_norms(layer: nn.Module, scores: Tensor) -> Tensor:
    """Returns the sum of squared scores of each filter (float64), which ranks filters as the L2 norm does.

    Equal filters give equal sums.

    Args:
        layer: The layer.
        scores: One per weight, in the weight's shape.
    """
    # Row by row: a sum over all of them at once may round equal rows differently, and fc6 of VGG-16 would need 1.6 GB.
    sums = [row.contiguous().double().square().sum() for row in filter_rows(layer, scores)]
    return torch.stack(sums) if sums else torch.zeros(0, dtype=torch.float64, device=scores.device)


def owned_filters(name: str, layer: nn.Module, owned: Tensor) -> Tensor:
    """Returns which filters are owned (bool, one per output channel).

    Args:
        name: Of the weight, for the message.
        layer: The layer.
        owned: Which weights are (bool, the weight's shape).

    Raises:
        ValueError: If a filter is owned in part.
    """
    rows = filter_rows(layer, owned)
    some = rows.any(1)
    split = some & ~rows.all(1)
    if split.any():
        raise ValueError(
            f"filter {int(split.nonzero()[0])} of {name} belongs to several tasks, as earlier ones were pruned weight "
            "by weight: whole filters cannot be released there; use granularity='weight'"
        )
    return some


def spread_filters(layer: nn.Module, filters: Tensor, shape: torch.Size) -> Tensor:
    """Returns which weights belong to the chosen filters (bool, the weight's shape).

    Args:
        layer: The layer.
        filters: The choice: bool, one per output channel.
        shape: Of the weight.
    """
    kernel = [1] * (len(shape) - 2)
    if isinstance(layer, _TRANSPOSED):
        inputs = shape[0] // layer.groups
        columns = filters.reshape(layer.groups, 1, shape[1], *kernel).expand(-1, inputs, *shape[1:])
        return columns.reshape(shape).clone()
    return filters.reshape(-1, 1, *kernel).expand(shape).clone()
