"""Selects the lowest scores of tensors whose rows are divided among processes: the choice that one process would make.

No score leaves its process. Bits are counted, eleven at a time from the highest on, in all processes and for all
layers together, and the counts are added up: these say which value of the eleven bits the wanted rank has, and in its
bucket the next eleven are counted. In the end each process knows the bits of the wanted rank, and how many entries that
are equal to it lie before its own rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from packnet_pl.core.bits import as_integers
from packnet_pl.core.ranking import count_digits, mark_up_to
from packnet_pl.core.selection import Candidates, row_of
from packnet_pl.core.shards import Processes

__all__ = ["lowest_of_all"]

_DIGIT = 11
"""Bits that are counted at a time: three passes over float32, and their counts stay in the fastest cache."""

_VALUES = 1 << _DIGIT


def lowest_of_all(
    groups: Sequence[Sequence[Candidates]], counts: Sequence[int], processes: Processes, *, many: bool = False
) -> list[list[Tensor]]:
    """Chooses the lowest scores of each group of layers: those that ``lowest`` would choose in one process.

    Args:
        groups: Layers that are ranked together, each with this process's rows; finite scores.
        counts: How many to choose of each group, in [0, number of its candidates in all processes].
        processes: That have the rows.
        many: Whether compiled loops are worth it in this process; the choice is the same.

    Returns:
        For each layer of each group a mask (bool) of this process's rows.
    """
    places = [_Place(_key_type(group), count) for group, count in zip(groups, counts, strict=True)]
    rows = [[_Rows(layer, place.dtype, many) for layer in group] for place, group in zip(places, groups, strict=True)]
    ties: list[list[int]] = []
    for step in range(max(len(place.digits) for place in places)):
        tables = [[place.table(layer, step) for layer in group] for place, group in zip(places, rows, strict=True)]
        total = processes.sum(torch.stack([torch.stack(own).sum(0) for own in tables]))
        for place, found in zip(places, total, strict=True):
            place.go_on(found, step)
        ties = [
            [int(own[place.value]) for own in of] if step < len(place.digits) else before
            for place, of, before in zip(places, tables, ties or [[]] * len(places), strict=True)
        ]
    of_each = processes.of_each(torch.tensor([number for of_group in ties for number in of_group]))
    before = _ties_before(of_each, [len(group) for group in groups], processes.rank)
    return [
        [layer.chosen(place, start, own) for layer, start, own in zip(*of_group, strict=True)]
        for place, *of_group in zip(places, rows, before, ties, strict=True)
    ]


@dataclass(frozen=True)
class _Digit:
    """Some bits of a key: ``bits`` of them, the lowest of which is ``shift``."""

    shift: int
    bits: int


class _Place:
    """Where the wanted rank of one group lies, as far as its bits are known.

    Keys are ordered as the scores are, if they are read without a sign.

    Attributes:
        dtype: Of the scores, in which all of a group are exact.
        digits: What is counted, one after another.
        key: Of the wanted rank; at first, those of its bits that are known.
        value: Of the digit that was found last.
        missing: How many entries of the bucket are to be chosen.
    """

    def __init__(self, dtype: torch.dtype, count: int) -> None:
        width = 8 * dtype.itemsize
        shifts = [*range(width - _DIGIT, 0, -_DIGIT), 0]
        self.digits = [_Digit(shift, above - shift) for above, shift in pairwise([width, *shifts])]
        self.dtype, self._is_none = dtype, count == 0
        self.key, self.value, self.missing = 0, 0, count

    def table(self, layer: "_Rows", step: int) -> Tensor:
        """Returns how often each value of a digit is in the bucket: int64, on the CPU."""
        if self._is_none or step >= len(self.digits):
            return torch.zeros(_VALUES, dtype=torch.int64)
        return layer.table(self.digits[step], None if step == 0 else self.key)

    def go_on(self, counts: Tensor, step: int) -> None:
        """Goes on to the next bits; ``counts`` is the sum of the tables."""
        if step < len(self.digits):
            ranks = counts.cumsum(0)
            self.value = int(torch.searchsorted(ranks, self.missing))
            self.missing -= int(ranks[self.value - 1]) if self.value else 0
            self.key = self.key << self.digits[step].bits | self.value


class _Rows:
    """The candidates of one layer that this process has: counted and marked by compiled loops, or by torch.

    Args:
        layer: This process's rows.
        dtype: In which its scores are ranked.
        many: Whether compiled loops are worth it.
    """

    def __init__(self, layer: Candidates, dtype: torch.dtype, many: bool) -> None:
        self._layer, self._type = layer, dtype
        self._mask = torch.zeros_like(layer.groups, dtype=torch.bool)
        self._has_loops = many and layer.scores.dtype == dtype and row_of(layer, self._mask) is not None
        # Keys of magnitudes have no sign; others are signed here, as torch has no others, and half of them are below 0.
        self._offset = 0 if layer.by_magnitude else 1 << (8 * dtype.itemsize - 1)

    def table(self, digit: _Digit, above: int | None) -> Tensor:
        """Returns how often each value of ``digit`` is there, where the bits above it are ``above`` (None: any)."""
        # Made anew each time: keys of other scores than magnitudes need memory.
        row = row_of(self._layer, self._mask) if self._has_loops else None
        if row is not None:
            return torch.from_numpy(count_digits(row, digit.shift, digit.bits, above, size=_VALUES))
        digits = (self._keys() >> digit.shift) - (((above or 0) << digit.bits) - (self._offset >> digit.shift))
        inside = self._eligible() & (digits >= 0) & (digits < 1 << digit.bits)
        # The others count as one more value: to index by bools is slower by far.
        return torch.bincount(digits.mul_(inside).add_(inside).reshape(-1), minlength=_VALUES + 1)[1:].cpu()

    def chosen(self, place: _Place, before: int, ties: int) -> Tensor:
        """Returns the mask of what is chosen.

        Args:
            place: Where the wanted rank is.
            before: How many of the entries equal to it lie before these rows.
            ties: How many of them lie in these rows.
        """
        missing = max(place.missing - before, 0)
        row = row_of(self._layer, self._mask) if self._has_loops else None
        if row is not None:
            mark_up_to(row, place.key, missing, ties)
            return self._mask
        eligible, keys, key = self._eligible(), self._keys(), place.key - self._offset
        equal = eligible & (keys == key)
        some = equal.reshape(-1).cumsum(0).reshape(equal.shape) <= missing
        return (eligible & (keys < key)) | (equal & some)

    def _eligible(self) -> Tensor:
        return self._layer.groups == self._layer.group

    def _keys(self) -> Tensor:
        scores = self._layer.scores.detach().to(self._type)
        if self._layer.by_magnitude:
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
