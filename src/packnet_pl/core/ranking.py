"""Ranks many numbers exactly: compiled loops find the key of a rank and mark what lies below it.

Few numbers are partly sorted. Of many, a sample tells two keys that the wanted one lies between, and one pass keeps
what is between them, of which few again are sorted. Where a sample cannot tell, as with many equal numbers, bits are
counted: the upper 16 of all candidates, then the next 16 of those in the bucket in which the rank lies, and so on.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from packnet_pl.core.loops import compiled, each, empty, pieces

__all__ = [
    "Key",
    "Row",
    "count_digits",
    "key_by_counting",
    "key_by_sampling",
    "key_by_sorting",
    "mark_lowest",
    "mark_up_to",
]

_FEW = 1 << 19
"""Numbers that are sorted at once; of more, samples are good enough."""

_DIGIT = 16
"""Bits that are counted at a time."""

_SAMPLED, _AT_MOST = 1 << 8, 1 << 17
"""One number of this many is looked at first, and no more than so many of them."""

_DEVIATIONS = 5
"""Of the sampling, between the wanted rank and either bound."""

_KEPT, _KEPT_ANYWAY = 8, 1 << 16
"""One number of this many is kept at most: more of them would better be counted. But a small layer may have all of its
numbers near the wanted one."""


@dataclass(frozen=True)
class Row:
    """Numbers to choose from.

    Attributes:
        keys: 1-D, unsigned integers of 16, 32 or 64 bits.
        mask: Which bits of them count, a scalar of their type.
        groups: Of the same length.
        group: Those with this number may be chosen; a scalar of the type of ``groups``.
        chosen: Bool, of the same length: where the choice is written.
    """

    keys: NDArray[Any]
    mask: Any
    groups: NDArray[Any]
    group: Any
    chosen: NDArray[np.bool_]

    def __getitem__(self, part: slice) -> "Row":
        return Row(self.keys[part], self.mask, self.groups[part], self.group, self.chosen[part])

    @property
    def read(self) -> tuple[Any, ...]:
        """What a loop reads."""
        return self.keys, self.mask, self.groups, self.group


@dataclass(frozen=True)
class Key:
    """The key of a rank.

    Attributes:
        key: What lies below it is chosen.
        missing: How many of those that are equal to it are chosen besides.
        ties: How many are equal to it in each row.
    """

    key: int
    missing: int
    ties: list[int]


def mark_lowest(rows: Sequence[Row], count: int) -> list[int]:
    """Marks the ``count`` lowest candidates of all rows; ties go to the earlier row, and there to the lower index.

    Args:
        rows: At least one, all with keys of one type.
        count: At least 1, at most the number of candidates.

    Returns:
        The highest key of each row, whether it is a candidate or not; 0 for a row without keys.
    """
    numbers = [number for number, row in enumerate(rows) for _ in pieces(row.keys.size)]
    parts = [row[piece] for row in rows for piece in pieces(row.keys.size)]
    if sum(part.keys.size for part in parts) <= _FEW:
        found = key_by_sorting(parts, count)
    else:
        found = key_by_sampling(parts, count) or key_by_counting(parts, count)
    missing, todo = found.missing, []
    for number, part, ties in zip(numbers, parts, found.ties, strict=True):
        # All ties of this part are chosen, or those up to some index, or none.
        some = 0 < missing < ties
        end = _end_of_ties_in(part, found.key, missing) if some else part.keys.size * (missing > 0)
        todo += [(number, part[:end], found.key), (number, part[end:], found.key - 1)]
        missing -= min(missing, ties)
    highest = [0] * len(rows)
    for (number, _, _), high in zip(todo, each(lambda given: _mark_up_to(*given[1:]), todo), strict=True):
        highest[number] = max(highest[number], high)
    return highest


def key_by_sorting(rows: Sequence[Row], count: int) -> Key:
    """Returns the key of rank ``count``, by a copy of all candidates."""
    found = each(lambda row: row.keys[row.groups == row.group] & row.mask, rows)
    return _key_in(found, count)


def _key_in(candidates: Sequence[NDArray[Any]], rank: int) -> Key:
    """Returns the key of this rank (from 1) of the candidates of all rows."""
    together = np.concatenate(candidates)
    key = np.partition(together, rank - 1)[rank - 1]
    missing = rank - int(np.count_nonzero(together < key))
    return Key(int(key), missing, [int(np.count_nonzero(keys == key)) for keys in candidates])


def key_by_sampling(rows: Sequence[Row], count: int) -> Key | None:
    """Returns the key of rank ``count``; None if a sample cannot tell well enough where it is."""
    size = sum(row.keys.size for row in rows)
    step = max(_SAMPLED, size // _AT_MOST)
    taken = [row.keys[::step][row.groups[::step] == row.group] & row.mask for row in rows]
    sample = np.sort(np.concatenate(taken))
    # Of a sampled rank, as each number is below the key, and a candidate, or not.
    share = count / size
    rank, spread = count / step, _DEVIATIONS * math.sqrt(size / step * share * (1 - share)) + len(rows)
    low, high = math.floor(rank - spread), math.ceil(rank + spread)
    if low >= sample.size:  # candidates lie where none is looked at
        return None
    unsigned: Any = rows[0].keys.dtype.type
    lowest = sample[low] if low >= 0 else unsigned(0)
    highest = sample[high] if high < sample.size else rows[0].mask

    if lowest == highest:
        return _key_if_it_is(lowest, rows, count)
    width = np.uint64(int(highest) - int(lowest))

    def between(row: Row) -> tuple[int, NDArray[Any] | None]:
        kept = empty(row.keys.size + 1, row.keys.dtype)
        below, number = compiled(_keep_between)(*row.read, lowest, width, kept)
        return below, kept[:number].copy() if number <= max(row.keys.size // _KEPT, _KEPT_ANYWAY) else None

    found = each(between, rows)
    kept = [keys for _, keys in found if keys is not None]
    if len(kept) < len(rows):
        return None
    rest = count - sum(below for below, _ in found)
    return _key_in(kept, rest) if 0 < rest <= sum(keys.size for keys in kept) else None


def _key_if_it_is(key: Any, rows: Sequence[Row], count: int) -> Key | None:
    """Returns the key of rank ``count`` if it is this one, as where most weights are zero."""
    found = each(lambda row: compiled(_count_around)(*row.read, key), rows)
    missing, ties = count - sum(below for below, _ in found), [equal for _, equal in found]
    return Key(int(key), missing, ties) if 0 < missing <= sum(ties) else None


def key_by_counting(rows: Sequence[Row], count: int) -> Key:
    """Returns the key of rank ``count``, in two passes for numbers of 32 bits."""
    found, tables = 0, [np.zeros(0, np.int64)]
    for shift in range(8 * rows[0].keys.itemsize - _DIGIT, -1, -_DIGIT):
        above = None if tables[0].size == 0 else found
        tables = each(lambda row, shift=shift, above=above: count_digits(row, shift, _DIGIT, above), rows)  # type: ignore[misc]
        ranks = sum(tables[1:], tables[0]).cumsum()
        digit = int(np.searchsorted(ranks, count))
        count -= int(ranks[digit - 1]) if digit else 0
        found = found << _DIGIT | digit
    return Key(found, count, [int(table[digit]) for table in tables])


def count_digits(row: Row, shift: int, bits: int, above: int | None, *, size: int | None = None) -> NDArray[np.int64]:
    """Returns how often each value of some bits of the keys is among the candidates.

    Args:
        row: Candidates.
        shift: The lowest of the bits.
        bits: How many.
        above: What the bits above them are; None: any, as there are none.
        size: Of the table; None is one entry for each value.
    """
    unsigned: Any = row.keys.dtype.type
    tables = each(lambda part: _table(part, unsigned(shift), bits, above, size or 1 << bits), _parts(row))
    return sum(tables[1:], tables[0]) if tables else np.zeros(size or 1 << bits, np.int64)


def _parts(row: Row) -> list[Row]:
    return [row[piece] for piece in pieces(row.keys.size)]


def _table(row: Row, shift: Any, bits: int, above: int | None, size: int) -> NDArray[np.int64]:
    table = np.zeros(size, np.int64)
    if above is None:
        compiled(_count_highest)(*row.read, shift, table)
    else:
        compiled(_count_next)(*row.read, shift, np.uint64(bits), np.uint64(above), table)
    return table


def _count_highest(keys: Any, mask: Any, groups: Any, group: Any, shift: Any, table: Any) -> None:
    for index in range(keys.size):
        table[(keys[index] & mask) >> shift] += groups[index] == group


def _count_next(keys: Any, mask: Any, groups: Any, group: Any, shift: Any, digit: Any, above: Any, table: Any) -> None:
    low = (np.uint64(1) << digit) - np.uint64(1)
    for index in range(keys.size):
        key = np.uint64((keys[index] & mask) >> shift)
        if key >> digit == above:
            table[key & low] += groups[index] == group


def _keep_between(keys: Any, mask: Any, groups: Any, group: Any, low: Any, width: Any, kept: Any) -> tuple[int, int]:
    """Counts candidates below ``low``, and keeps those from there up to ``low + width``: without a branch."""
    below, number = 0, 0
    for index in range(keys.size):
        key = keys[index] & mask
        candidate = groups[index] == group
        below += candidate & (key < low)
        kept[number] = key
        number += candidate & (np.uint64(key - low) <= width)  # what is below wraps around
    return below, number


def _count_around(keys: Any, mask: Any, groups: Any, group: Any, key: Any) -> tuple[int, int]:
    """Returns how many candidates are below ``key``, and how many are equal to it."""
    below, equal = 0, 0
    for index in range(keys.size):
        candidate = groups[index] == group
        below += candidate & ((keys[index] & mask) < key)
        equal += candidate & ((keys[index] & mask) == key)
    return below, equal


def mark_up_to(row: Row, key: int, missing: int, ties: int) -> None:
    """Marks the candidates of ``row`` below ``key``, and the first of those that are equal to it.

    Args:
        row: Candidates.
        key: As an unsigned integer.
        missing: How many that are equal to it are marked, at least 0; more than there are: all.
        ties: How many are equal to it.
    """
    end = _end_of_ties_in(row, key, missing) if 0 < missing < ties else row.keys.size * (missing > 0)
    todo = [(part, key) for part in _parts(row[:end])] + [(part, key - 1) for part in _parts(row[end:])]
    each(lambda given: _mark_up_to(*given), todo)


def _end_of_ties_in(row: Row, key: int, wanted: int) -> int:
    return int(compiled(_end_of_ties)(*row.read, row.keys.dtype.type(key), wanted))


def _end_of_ties(keys: Any, mask: Any, groups: Any, group: Any, key: Any, wanted: int) -> int:
    """Returns the index after the last of the first ``wanted`` ties."""
    for index in range(keys.size):
        if (keys[index] & mask) == key and groups[index] == group:
            wanted -= 1
            if wanted == 0:
                return index + 1
    return keys.size  # type: ignore[no-any-return]


def _mark_up_to(row: Row, key: int) -> int:
    """Marks candidates up to ``key`` (-1: none), and returns the highest key that there is."""
    if key < 0:
        row.chosen[:] = False
        return int((row.keys & row.mask).max(initial=0))
    return int(compiled(_mark)(*row.read, row.keys.dtype.type(key), row.chosen))


def _mark(keys: Any, mask: Any, groups: Any, group: Any, limit: Any, chosen: Any) -> Any:
    unsigned = keys.dtype.type  # numba would compute with wider integers, of which fewer are done at a time
    highest = unsigned(0)
    for index in range(keys.size):
        key = unsigned(keys[index] & mask)
        highest = key if key > highest else highest
        chosen[index] = (groups[index] == group) & (key <= limit)
    return highest
