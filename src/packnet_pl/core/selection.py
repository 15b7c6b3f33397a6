"""Selects the lowest scores, exactly: the same choice for many weights and few, on any device and in any layout."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from packnet_pl.core.bits import as_integers
from packnet_pl.core.finite import check_finite
from packnet_pl.core.loops import in_memory_order
from packnet_pl.core.ranking import Row, mark_lowest

__all__ = ["Candidates", "lowest", "row_of"]

_UNSIGNED: dict[int, Any] = {2: np.uint16, 4: np.uint32, 8: np.uint64}


@dataclass(frozen=True)
class Candidates:
    """Scores of the units of one layer, and which of them may be chosen.

    Attributes:
        name: What the scores are called in errors.
        scores: Any shape and floating type.
        groups: Of the same shape: numbers (uint8), or a mask (bool).
        group: Those with this number, or in the mask, may be chosen.
        by_magnitude: Whether the sign of a score does not count.
    """

    name: str
    scores: Tensor
    groups: Tensor
    group: int = 1
    by_magnitude: bool = False


def lowest(layers: Sequence[Candidates], count: int, *, many: bool = False) -> list[Tensor]:
    """Chooses the ``count`` lowest scores of all candidates of all layers.

    Ties go to the earlier layer, and there to the lower flat index (row-major, whatever the memory layout), so the
    choice is exact also when many scores are equal.

    Args:
        layers: At least one, on any devices.
        count: How many to choose, in [0, number of candidates].
        many: Whether compiled loops are worth it; the choice is the same.

    Returns:
        For each layer a mask (bool, in the memory layout of the groups), in which exactly ``count`` entries are True in
        all.

    Raises:
        ValueError: If a score is not finite.
    """
    chosen = [torch.zeros_like(layer.groups, dtype=torch.bool) for layer in layers]
    rows = [row_of(layer, mask) for layer, mask in zip(layers, chosen, strict=True)] if many and count else []
    found = [row for row in rows if row is not None]
    if len(found) == len(layers) and len({row.keys.dtype for row in found}) == 1:
        for layer, highest in zip(layers, mark_lowest(found, count), strict=True):
            if not layer.by_magnitude or highest >= _bits_of_infinity(layer.scores.dtype):
                check_finite(layer.name, layer.scores)
        return chosen
    for layer in layers:
        check_finite(layer.name, layer.scores)
    if count == 0:
        return chosen
    if len(layers) == 1:
        return [_lowest_by_value(_values(layers[0]), layers[0].groups == layers[0].group, count)]
    first = layers[0].scores
    exact = torch.float64 if any(layer.scores.dtype == torch.float64 for layer in layers) else torch.float32
    values = torch.cat([_values(layer).reshape(-1).to(first.device, exact) for layer in layers])
    eligible = torch.cat([(layer.groups == layer.group).reshape(-1).to(first.device) for layer in layers])
    parts = torch.split(_lowest_by_value(values, eligible, count), [mask.numel() for mask in chosen])
    return [mask.copy_(part.reshape(mask.shape)) for mask, part in zip(chosen, parts, strict=True)]


def row_of(layer: Candidates, chosen: Tensor) -> Row | None:
    """Returns what compiled loops read and write; None if it is not in the CPU's memory in row-major order."""
    scores = layer.scores.detach()
    if not scores.is_contiguous() or scores.device.type != "cpu":
        return None
    found = in_memory_order(scores if layer.by_magnitude else _ordered_bits(scores), layer.groups.contiguous(), chosen)
    if found is None:
        return None
    bits, groups, marks = found
    unsigned = _UNSIGNED[scores.element_size()]
    mask = unsigned(np.iinfo(unsigned).max >> layer.by_magnitude)
    return Row(bits.view(unsigned), mask, groups, groups.dtype.type(layer.group), marks)


def _lowest_by_value(scores: Tensor, eligible: Tensor, count: int) -> Tensor:
    """Chooses the ``count`` lowest of the eligible scores, on any device.

    No float arithmetic is involved: float32 cannot count beyond 2^24.

    Args:
        scores: Finite values, any shape and real dtype.
        eligible: Bool, same shape: where to choose.
        count: How many to choose, in [1, number of eligible entries].

    Returns:
        Bool, same shape, with exactly ``count`` entries True; ties go to the lower flat index.
    """
    candidates = scores[eligible]
    threshold = torch.kthvalue(candidates, count).values
    below = candidates < threshold
    ties = candidates == threshold
    missing = count - int(below.sum())
    chosen = torch.zeros_like(eligible)
    chosen[eligible] = below | (ties & (ties.cumsum(0) <= missing))
    return chosen


def _values(layer: Candidates) -> Tensor:
    return layer.scores.detach().abs() if layer.by_magnitude else layer.scores.detach()


def _bits_of_infinity(dtype: torch.dtype) -> int:
    return int(as_integers(torch.tensor(torch.inf, dtype=dtype, device="cpu")))


def _ordered_bits(scores: Tensor) -> Tensor:
    """Returns integers that are, read without a sign, ordered as the scores are; -0.0 is 0.0."""
    bits = as_integers(scores + 0.0)
    return torch.where(bits < 0, ~bits, bits ^ torch.iinfo(bits.dtype).min)
