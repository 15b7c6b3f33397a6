"""Random augmentation that depends only on (seed, task, phase, epoch) and the index of the image."""

from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from packnet_pl.data.seeding import derive_seed

__all__ = ["ItemKey", "SeededItems"]

ItemKey = tuple[int, int, int]
"""Of an item: the epoch, its index, and how often this epoch has had it before."""


class SeededItems(Dataset[tuple[Tensor, ...]]):
    """Seeds torch for each item of a split, so that neither loader processes, nor ranks, nor a resume change it.

    Args:
        split: Its items draw random numbers from torch's generator on the CPU.
        key: (seed, task, phase): what the numbers depend on beside the epoch and the index.
    """

    def __init__(self, split: Any, key: tuple[str | int, ...]) -> None:
        self._split, self._key = split, key

    def __len__(self) -> int:
        return len(self._split)

    def __getitem__(self, key: ItemKey | int) -> tuple[Tensor, ...]:
        # Lightning's overfit_batches replaces our sampler by one of plain indices.
        epoch, index, before = key if isinstance(key, tuple) else (0, key, 0)
        again = (before,) if before else ()  # an image that is drawn twice is another one the second time
        state = torch.get_rng_state()
        try:
            # Not torch.manual_seed: it also seeds every GPU, and those are not given back.
            torch.default_generator.manual_seed(derive_seed(*self._key, epoch, "item", index, *again))
            item: tuple[Tensor, ...] = self._split[index]
            return item
        finally:
            torch.set_rng_state(state)
