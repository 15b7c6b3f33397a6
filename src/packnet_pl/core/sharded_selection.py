"""Selects the lowest scores of tensors whose rows are divided among processes: the choice that one process would make.

No score leaves its process. Bits are counted, eight at a time from the highest on, in all processes and for all
layers together, and the counts are added up: these say which value of the eight bits the wanted rank has, and in its
bucket the next eight are counted. In the end each process knows the bits of the wanted rank, and how many entries that
are equal to it lie before its own rows.
"""

from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from packnet_pl.core.bits import as_integers
from packnet_pl.core.selection import Candidates
from packnet_pl.core.shards import Processes

__all__ = ["lowest_of_all"]

_DIGIT = 8
_VALUES = 1 << _DIGIT


def lowest_of_all(
    groups: Sequence[Sequence[Candidates]], counts: Sequence[int], processes: Processes
) -> list[list[Tensor]]:
    """Chooses the lowest scores of each group of layers: those that ``lowest`` would choose in one process.

    Args:
        groups: Layers that are ranked together, each with this process's rows; finite scores.
        counts: How many to choose of each group, in [0, number of its candidates in all processes].
        processes: That have the rows.

    Returns:
        For each layer of each group a mask (bool) of this process's rows.
    """
    width = 8 * max(_key_type(group).itemsize for group in groups)
    places = [_Place(_key_type(group), count) for group, count in zip(groups, counts, strict=True)]
    ties: list[list[int]] = []
    for shift in range(width - _DIGIT, -1, -_DIGIT):
        tables = [[place.table(layer, shift) for layer in group] for place, group in zip(places, groups, strict=True)]
        total = processes.sum(torch.stack([torch.stack(own).sum(0) for own in tables]))
        for place, found in zip(places, total, strict=True):
            place.go_on(found, shift)
        ties = [[int(own[place.digit]) for own in of] for place, of in zip(places, tables, strict=True)]
    of_each = processes.of_each(torch.tensor([number for of_group in ties for number in of_group]))
    before = _ties_before(of_each, [len(group) for group in groups], processes.rank)
    return [
        [place.chosen(layer, start) for layer, start in zip(group, starts, strict=True)]
        for place, group, starts in zip(places, groups, before, strict=True)
    ]


class _Place:
    """Where the wanted rank of one group lies, as far as its bits are known.

    Keys are signed integers that are ordered as the scores are.

    Attributes:
        digit: What was found last.
        missing: How many entries of the bucket are to be chosen.
    """

    def __init__(self, dtype: torch.dtype, count: int) -> None:
        self._type, self._base, self._is_none = dtype, -_VALUES // 2, count == 0
        self.digit, self.missing = 0, count

    def table(self, layer: Candidates, shift: int) -> Tensor:
        """Returns how often each value of the eight bits from ``shift`` on is in the bucket: int64, on the CPU."""
        if self._is_none or shift > 8 * self._type.itemsize - _DIGIT:
            return torch.zeros(_VALUES, dtype=torch.int64)
        digits = (self._keys(layer)[layer.groups == layer.group] >> shift) - self._base
        inside = digits[(digits >= 0) & (digits < _VALUES)]
        return torch.bincount(inside.long(), minlength=_VALUES).cpu()

    def go_on(self, counts: Tensor, shift: int) -> None:
        """Goes on to the next bits; ``counts`` is the sum of the tables."""
        if self._is_none or shift > 8 * self._type.itemsize - _DIGIT:
            return
        ranks = counts.cumsum(0)
        self.digit = int(torch.searchsorted(ranks, self.missing))
        self.missing -= int(ranks[self.digit - 1]) if self.digit else 0
        self._base = self._base + self.digit if not shift else (self._base + self.digit) << _DIGIT

    def chosen(self, layer: Candidates, before: int) -> Tensor:
        """Returns the mask of what is chosen of a layer; ``before`` of the entries equal to the rank lie before it."""
        eligible = layer.groups == layer.group
        if self._is_none:
            return torch.zeros_like(eligible)
        keys = self._keys(layer)
        ties = eligible & (keys == self._base)
        some = ties.reshape(-1).cumsum(0).reshape(ties.shape) <= self.missing - before
        return (eligible & (keys < self._base)) | (ties & some)

    def _keys(self, layer: Candidates) -> Tensor:
        scores = layer.scores.detach().to(self._type)
        if layer.by_magnitude:
            bits = as_integers(scores)
            return bits & torch.iinfo(bits.dtype).max
        bits = as_integers(scores + 0.0)  # -0.0 is 0.0
        return torch.where(bits < 0, ~bits ^ torch.iinfo(bits.dtype).min, bits)


def _key_type(group: Sequence[Candidates]) -> torch.dtype:
    """Returns the type in which all scores of a group are exact, as ``lowest`` has it."""
    types = {layer.scores.dtype for layer in group}
    if len(types) == 1:
        return types.pop()
    return torch.float64 if torch.float64 in types else torch.float32


def _ties_before(ties: Tensor, lengths: Sequence[int], rank: int) -> list[list[int]]:
    """Returns for each layer of each group how many ties lie before the rows of this process.

    Args:
        ties: int64, processes x layers.
        lengths: Number of layers in each group.
        rank: Of this process.
    """
    of_earlier: list[int] = ties[:rank].sum(0).tolist()
    of_all: list[int] = ties.sum(0).tolist()
    before, place = [], 0
    for length in lengths:
        layers = slice(place, place + length)
        starts = accumulate(of_all[layers], initial=0)
        before.append([start + own for start, own in zip(starts, of_earlier[layers], strict=False)])
        place += length
    return before
