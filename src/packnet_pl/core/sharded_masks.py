"""Masks of weights whose rows are divided among processes: which have an entry, and their bits as one process has them.

A packed mask has eight entries in a byte, and rows of one process may end inside a byte of the whole. So each process
has the bytes that begin in its rows; the next ones tell it the entries that it lacks of its last byte.
"""

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from packnet_pl.core.shards import Processes, Stretch, part_sizes

__all__ = ["names_with_entries", "packed_stretches"]

_BITS = 8


def names_with_entries(masks: Mapping[str, Tensor], processes: Processes | None) -> list[str]:
    """Returns the names of those masks in which an entry is True.

    Args:
        masks: Name -> bool; this process's rows.
        processes: That have the rows, and must call it alike: an entry in any counts. None asks nobody else.
    """
    counts = torch.tensor([int(mask.any()) for mask in masks.values()], dtype=torch.int64)
    if processes is not None and masks:
        counts = processes.sum(counts)
    return [name for name, count in zip(masks, counts.tolist(), strict=True) if count]


def packed_stretches(
    masks: Mapping[str, Tensor], weights: Mapping[str, Tensor], processes: Processes
) -> dict[str, Stretch]:
    """Returns the bytes of the whole packed masks that begin in this process's rows.

    Args:
        masks: Name -> this process's rows, as :func:`packnet_pl.core.packed_bits.pack_mask` has them.
        weights: Name -> weight.
        processes: That have the rows, and must call it alike.
    """
    firsts = processes.of_each(torch.tensor([int(mask[0]) if len(mask) else 0 for mask in masks.values()]))
    found = {}
    for (name, mask), bytes_ in zip(masks.items(), firsts.T.tolist(), strict=True):
        sizes = part_sizes(weights[name], processes)
        begin, size = sum(sizes[: processes.rank]), sizes[processes.rank]
        skipped = -begin % _BITS  # entries of a byte that begins before
        entries = np.unpackbits(mask.numpy(), count=size)[skipped:]
        if entries.size:
            rest = list(zip(bytes_, sizes, strict=True))[processes.rank + 1 :]
            entries = np.concatenate([entries, _first_entries(rest)[: -(begin + size) % _BITS]])
        bits = torch.from_numpy(np.packbits(entries))
        found[name] = Stretch((begin + skipped) // _BITS, bits, processes)
    return found


def _first_entries(parts: list[tuple[int, int]]) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """Returns the first entries of what follows.

    Args:
        parts: First byte, and number of entries, of each process's part.
    """
    bits = [np.unpackbits(np.array([first], np.uint8), count=min(size, _BITS)) for first, size in parts]
    return np.concatenate([np.empty(0, np.uint8), *bits])
