"""The frozen entries of a large weight, by compiled loops: the owner map is the mask, and each value is kept once.

A mask and values at full length would be five bytes a weight. This is none beside the owners, and the width of a number
for each entry that a finished task owns.
"""

from itertools import accumulate, pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from packnet_pl.core.bits import as_integers
from packnet_pl.core.freezing_loops import any_between, any_frozen, gather, mask, restore
from packnet_pl.core.loops import compiled, count_write_, each, empty, in_memory_order, pieces
from packnet_pl.core.ownership import FREE

__all__ = ["CompactEntries"]

_Array = NDArray[Any]

_SAMPLE_EVERY = 1 << 12
_SAMPLE_AT_LEAST = 512
_SAMPLE_AT_MOST = 1 << 17


class CompactEntries:
    """Freezes what one task does not own of a weight that is in the CPU's memory, in the order that it has there.

    Args:
        weight: As it is to be frozen.
        bits: The same, in the order of memory.
        owner: Its owner map, in the same order.
        number: The task that may change its own entries. Other tasks' are frozen at their bits, free ones at zero.
        known: Entries of the same weight, in which other tasks own the same: their values are taken, and not copied.

    Attributes:
        is_empty: Whether the task owns every entry.
        memory: Where the weight lay when it was frozen or restored last, as an address.
    """

    def __init__(
        self, weight: Tensor, bits: _Array, owner: Tensor, number: int, known: "CompactEntries | None" = None
    ) -> None:
        self._owner, self._number = owner, np.uint8(number)
        self._dtype, self.memory = weight.dtype, weight.data_ptr()
        self._mine, self._others = np.zeros((2, 256), bits.dtype)
        self._mine[number] = -1
        self._others[[other for other in range(256) if other not in {FREE, number}]] = -1
        self._found_owners: _Array | None = None
        owners = self._owners
        self._pieces = pieces(bits.size)
        counts = each(lambda piece: _counts(owners[piece], number), self._pieces)
        num_frozen = bits.size - sum(mine for mine, _ in counts)
        self.is_empty = not num_frozen
        ends = list(accumulate((others for _, others in counts), initial=0))
        self._parts = [slice(*part) for part in pairwise(ends)]
        is_known = known is not None and known._parts == self._parts and known._owner.stride() == owner.stride()
        self._values: _Array = known._values if known is not None and is_known else self._gathered(bits)
        every = max(1, min(_SAMPLE_EVERY, num_frozen // _SAMPLE_AT_LEAST), bits.size // _SAMPLE_AT_MOST)
        # One anywhere in each stretch: at equal distances all may lie in one column, which alone may be zero.
        stretches = np.arange(0, bits.size, every)
        sampled = stretches + np.random.default_rng(0).integers(np.minimum(every, bits.size - stretches))
        self._sampled = sampled[owners[sampled] != number]
        self._sample = np.where(owners[self._sampled] == FREE, 0, bits[self._sampled])
        self._is_special: bool | None = None

    def _gathered(self, bits: _Array) -> _Array:
        """Returns the bits of other tasks' entries, and one more: a loop reads it before it knows that it need not."""
        values, owners = empty(self._parts[-1].stop + 1 if self._parts else 1, bits.dtype), self._owners
        values[-1] = 0
        if len(values) > 1:
            work = compiled(gather)
            each(
                lambda at: work(bits[at[0]], owners[at[0]], self._others, values[at[1]]),
                zip(self._pieces, self._parts, strict=True),
            )
        return values

    def mask_(self, grad: Tensor) -> bool:
        """Sets the frozen entries of ``grad`` to exact zeros.

        Returns:
            Whether it could: its memory has the order of the weight's.
        """
        bits = self._bits_of(grad)
        if bits is None:
            return False
        owners, work = self._owners, compiled(mask)
        each(lambda piece: work(bits[piece], owners[piece], self._number), self._pieces)
        count_write_(grad)
        return True

    def restore_(self, weight: Tensor) -> bool:
        """Restores the bits of all frozen entries in ``weight``.

        Returns:
            Whether it could: its memory has the order that the weight had.
        """
        self.memory = weight.data_ptr()
        if len(self._values) == 1:  # free ones alone are zero
            return self.mask_(weight)
        bits = self._bits_of(weight)
        if bits is None:
            return False
        owners, work = self._owners, compiled(restore)
        each(
            lambda at: work(
                bits[at[0]], owners[at[0]], self._mine, self._others, self._values[at[1].start : at[1].stop + 1]
            ),
            zip(self._pieces, self._parts, strict=True),
        )
        count_write_(weight)
        return True

    def is_zero_in(self, tensor: Tensor) -> bool:
        """Returns whether all frozen entries of ``tensor``, of the state of an optimizer, are exact zeros."""
        bits = self._bits_of(tensor)
        if bits is None or bits[self._sampled].any():  # most often it is seen in a few
            return False
        owners, work = self._owners, compiled(any_frozen)
        return not any(each(lambda piece: work(bits[piece], owners[piece], self._number), self._pieces))

    def is_sample_in(self, weight: Tensor) -> bool:
        """Returns whether a sample of the frozen entries of ``weight`` has the frozen bits."""
        bits = self._bits_of(weight)
        return bits is not None and bool((bits[self._sampled] == self._sample).all())

    def stays_in_sums(self) -> bool:
        """Returns whether adding zero changes no value: processors may flush small ones to zero, and NaN has kinds."""
        if self._is_special is None:
            values, work = self._values, compiled(any_between)
            ends = torch.tensor([torch.finfo(self._dtype).tiny, torch.inf], dtype=self._dtype, device="cpu")
            least, most = as_integers(ends).numpy()
            sign = np.iinfo(values.dtype).max
            is_special = each(lambda part: work(values[part], values.dtype.type(sign), least, most), self._parts)
            self._is_special = any(is_special)
        return not self._is_special

    def expanded(self) -> Tensor:
        """Returns the bits of other tasks' entries in the shape of the weight, and zero elsewhere."""
        full = torch.zeros_like(self._owner, dtype=torch.from_numpy(self._values).dtype)
        bits, owners = in_memory_order(full, self._owner) or ()
        bits[(owners != self._number) & (owners != FREE)] = self._values[:-1]
        return full

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_found_owners": None}  # it shares memory with the map, as a copy of it would not

    @property
    def _owners(self) -> _Array:
        if self._found_owners is None:
            (self._found_owners,) = in_memory_order(self._owner) or ()
        return self._found_owners

    def _bits_of(self, tensor: Tensor) -> _Array | None:
        """Returns the memory of ``tensor``, if it has the order of the owners."""
        if tensor.shape != self._owner.shape or tensor.layout != torch.strided:
            return None
        is_alike = tensor.stride() == self._owner.stride()  # mostly, and looked at faster than both arrays are made
        arrays = in_memory_order(tensor) if is_alike else in_memory_order(tensor, self._owner)
        return None if arrays is None else arrays[0]


def _counts(owners: _Array, number: int) -> tuple[int, int]:
    """Returns how many entries belong to the task, and how many to other tasks."""
    mine = int(np.count_nonzero(owners == number))
    return mine, int(np.count_nonzero(owners)) - mine  # free ones are zero
