"""Whole filters (output channels) as the units that a task owns and releases, ranked by their L2 norm."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from packnet_pl.core.pruning import Granularity, Scope, choose_releases

__all__ = ["choose_filter_releases", "count_units", "filter_rows", "owned_filters", "squared_norms"]

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)


def filter_rows(layer: nn.Module, tensor: Tensor) -> Tensor:
    """Returns one row per output channel of ``layer``.

    Args:
        layer: A convolution, transposed convolution or linear layer.
        tensor: Of the shape of its weight: the weight itself, or a map of it.
    """
    if not isinstance(layer, _TRANSPOSED):
        return tensor.reshape(len(tensor), -1)
    # Here the weight is in x out/groups x kernel, and the channels of a group see only that group's inputs.
    parts = tensor.reshape(layer.groups, tensor.shape[0] // layer.groups, tensor.shape[1], -1)
    return parts.transpose(1, 2).flatten(0, 1).flatten(1)


def squared_norms(rows: Tensor) -> Tensor:
    """Returns the sum of squares of each row (float64), which ranks as the L2 norm does; equal rows give equal sums."""
    # Row by row: a sum over all of them at once may round equal rows differently, and fc6 of VGG-16 would need 1.6 GB.
    sums = [row.contiguous().double().square().sum() for row in rows.detach()]
    return torch.stack(sums) if sums else torch.zeros(0, dtype=torch.float64, device=rows.device)


def owned_filters(name: str, rows: Tensor) -> Tensor:
    """Returns which filters are owned (bool, one per row of ``rows``, a bool map of what is).

    Raises:
        ValueError: If a filter is owned in part; the message holds ``name``.
    """
    some = rows.any(1)
    split = some & ~rows.all(1)
    if split.any():
        raise ValueError(
            f"filter {int(split.nonzero()[0])} of {name} belongs to several tasks, as earlier ones were pruned weight "
            "by weight: whole filters cannot be released there; use granularity='weight'"
        )
    return some


def count_units(name: str, layer: nn.Module, mask: Tensor, granularity: Granularity) -> int:
    """Returns how many weights, or whole filters, of ``layer`` are marked in ``mask`` (bool, the weight's shape).

    Raises:
        ValueError: If a filter is marked in part.
    """
    return int((mask if granularity == "weight" else owned_filters(name, filter_rows(layer, mask))).sum())


def choose_filter_releases(
    layers: Mapping[str, nn.Module],
    weights: Mapping[str, Tensor],
    eligible: Mapping[str, Tensor],
    ratio: float,
    scope: Scope = "layer",
) -> dict[str, Tensor]:
    """Chooses the filters that a task gives up: exactly ``round(ratio * owned filters)``, the smallest L2 norms first.

    Ties go to the lower index.

    Args:
        layers: Name -> the layer whose weight it is.
        weights: Name -> weights.
        eligible: Name -> bool of the same shape: the weights the task owns, whole filters all.
        ratio: Share of the owned filters to release, in [0, 1).
        scope: "layer" counts and ranks in each layer, "global" over all layers together.

    Returns:
        Name -> bool mask of the weights to release.

    Raises:
        ValueError: If a weight is not finite, or a filter is owned in part.
    """
    mine = {name: owned_filters(name, filter_rows(layers[name], mask)) for name, mask in eligible.items()}
    norms = {name: squared_norms(filter_rows(layers[name], weight)) for name, weight in weights.items()}
    chosen = choose_releases(norms, mine, ratio, scope)
    return {name: _spread(layers[name], chosen[name], weight.shape) for name, weight in weights.items()}


def _spread(layer: Any, filters: Tensor, shape: torch.Size) -> Tensor:
    """Returns the mask (bool, ``shape``) of all weights of the chosen filters."""
    kernel = [1] * (len(shape) - 2)
    if isinstance(layer, _TRANSPOSED):
        inputs = shape[0] // layer.groups
        columns = filters.reshape(layer.groups, 1, shape[1], *kernel).expand(-1, inputs, *shape[1:])
        return columns.reshape(shape).clone()
    return filters.reshape(-1, 1, *kernel).expand(shape).clone()
