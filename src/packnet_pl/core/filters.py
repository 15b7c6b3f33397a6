"""Whole filters (what makes one output) of a weight: as rows, their norms, and back to weights.

================================================  ==================================================================
weight                                            its filters
================================================  ==================================================================
convolution, linear, bilinear, their look-alikes  one per output channel or feature
transposed convolution                            one per output channel; those of a group see only its inputs
``Conv1D`` of transformers                        one per output feature, which is the second dimension
attention, packed projections                     one per head: its rows of query, key and value together
attention, separate projections                   one per head, chosen in each projection by itself
RNN, LSTM, GRU and their cells                    one per hidden unit: its rows of all gates, chosen in each weight by
                                                  itself; or per projected feature
embedding                                         one per row
other                                             refused: nobody knows which dimension the outputs are
================================================  ==================================================================
"""

import math
from typing import Any

import torch
from torch import Tensor, nn

from packnet_pl.core.slots import Slot

__all__ = ["filter_norms", "filter_rows", "filter_sums", "owned_filters", "spread_filters"]

_TRANSPOSED = (nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d)
_RECURRENT = (nn.RNNBase, nn.RNNCellBase)
_WITH_OUTPUT_ROWS = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear, nn.Bilinear, nn.Embedding, nn.EmbeddingBag)


def filter_rows(name: str, slot: Slot, tensor: Tensor) -> Tensor:
    """Returns one row per filter.

    Args:
        name: Of the weight, for the message.
        slot: Of the weight.
        tensor: Of the shape of the weight: the weight itself, or a map of it.

    Raises:
        ValueError: If it is not known what the outputs of its layer are.
    """
    layer: Any = slot.layer
    if isinstance(layer, _TRANSPOSED):
        # Here the weight is in x out/groups x kernel, and the channels of a group see only that group's inputs.
        parts = tensor.reshape(layer.groups, tensor.shape[0] // layer.groups, tensor.shape[1], -1)
        return parts.transpose(1, 2).flatten(0, 1).flatten(1)
    if _is_transformers_conv1d(slot):
        return tensor.T
    blocks, filters = _rows_of(name, slot, tensor.shape)
    parts = tensor.reshape(blocks, filters, tensor.shape[0] // max(1, blocks * filters), math.prod(tensor.shape[1:]))
    return parts.transpose(0, 1).flatten(1)


def filter_norms(name: str, slot: Slot, scores: Tensor) -> Tensor:
    """Returns the sum of squared scores of each filter (float64), which ranks filters as the L2 norm does.

    Equal filters give equal sums.

    Args:
        name: Of the weight, for the message.
        slot: Of the weight.
        scores: One per weight, in the weight's shape.
    """
    # Row by row: a sum over all of them at once may round equal rows differently, and fc6 of VGG-16 would need 1.6 GB.
    sums = [row.contiguous().double().square().sum() for row in filter_rows(name, slot, scores)]
    return torch.stack(sums) if sums else torch.zeros(0, dtype=torch.float64, device=scores.device)


def filter_sums(name: str, slot: Slot, scores: Tensor) -> Tensor:
    """Returns the sum of the scores of each filter (float64). Equal filters give equal sums.

    Args:
        name: Of the weight, for the message.
        slot: Of the weight.
        scores: One per weight, in the weight's shape.
    """
    sums = [row.contiguous().double().sum() for row in filter_rows(name, slot, scores)]
    return torch.stack(sums) if sums else torch.zeros(0, dtype=torch.float64, device=scores.device)


def owned_filters(name: str, slot: Slot, owned: Tensor) -> Tensor:
    """Returns which filters are owned (bool, one per filter).

    Args:
        name: Of the weight, for the message.
        slot: Of the weight.
        owned: Which weights are (bool, the weight's shape).

    Raises:
        ValueError: If a filter is owned in part, or it is not known what the outputs of the layer are.
    """
    rows = filter_rows(name, slot, owned)
    some = rows.any(1)
    split = some & ~rows.all(1)
    if split.any():
        raise ValueError(
            f"filter {int(split.nonzero()[0])} of {name} belongs to several tasks, as earlier ones were pruned weight "
            "by weight: whole filters cannot be released there; use granularity='weight'"
        )
    return some


def spread_filters(name: str, slot: Slot, filters: Tensor, shape: torch.Size) -> Tensor:
    """Returns which weights belong to the chosen filters (bool, the weight's shape).

    Args:
        name: Of the weight, for the message.
        slot: Of the weight.
        filters: The choice: bool, one per filter.
        shape: Of the weight.
    """
    numbers = torch.arange(shape.numel(), device=filters.device).reshape(shape)
    places = filter_rows(name, slot, numbers)
    spread = torch.zeros(shape.numel(), dtype=torch.bool, device=filters.device)
    spread[places[filters].flatten()] = True
    return spread.reshape(shape)


def _rows_of(name: str, slot: Slot, shape: torch.Size) -> tuple[int, int]:
    """Returns into how many blocks (gates, projections) the rows of a weight fall, and how many filters each has."""
    layer: Any = slot.layer
    if isinstance(layer, nn.MultiheadAttention) and slot.key.endswith("proj_weight"):
        return shape[0] // layer.embed_dim, layer.num_heads
    if isinstance(layer, _RECURRENT) and slot.key.startswith(("weight_ih", "weight_hh")):
        return shape[0] // layer.hidden_size, layer.hidden_size
    if isinstance(layer, _RECURRENT) or _has_output_rows(slot, shape):
        return 1, shape[0]
    raise ValueError(
        f"the filters of {name} are not known: nothing says which dimension of {tuple(shape)} in a "
        f"{type(layer).__name__} is that of its outputs; use granularity='weight', or leave it out with "
        "PackNet(..., prunable=...): 'paper' divides convolutions and linear layers only"
    )


def _has_output_rows(slot: Slot, shape: torch.Size) -> bool:
    """Returns whether each row of a ``weight`` makes one output, as its layer says by its kind or its attributes."""
    layer = slot.layer
    if slot.key != "weight":
        return False
    if isinstance(layer, _WITH_OUTPUT_ROWS):
        return True
    outputs, inputs = (_count(layer, f"{side}_features", f"{side}_channels") for side in ("out", "in"))
    if outputs is None or shape[0] != outputs:
        return False
    if inputs is None or len(shape) == 1:
        return True
    if shape[1] != inputs // (_count(layer, "groups") or 1):
        return False  # as where each row is an expert's, and there are as many as outputs
    # Of a square, only the name says that it is not multiplied from the left, as graph layers do.
    return len(shape) > 2 or inputs != outputs or "linear" in type(layer).__name__.lower()


def _count(layer: nn.Module, *keys: str) -> int | None:
    """Returns the first of these attributes that is an integer."""
    return next((value for key in keys if type(value := getattr(layer, key, None)) is int), None)


def _is_transformers_conv1d(slot: Slot) -> bool:
    return slot.key == "weight" and type(slot.layer).__name__ == "Conv1D" and hasattr(slot.layer, "nf")
