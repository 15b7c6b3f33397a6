"""Random augmentation that depends only on (seed, task, phase, epoch) and the index of the image."""

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, Sampler

from packnet_pl.data.seeding import derive_seed

__all__ = ["EpochIndexSampler", "SeededItems"]


class EpochIndexSampler(Sampler[tuple[int, int]]):
    """Yields the epoch with each index: a loader's worker process does not know it.

    Args:
        sampler: Gives the indices.
        epoch: Returns the number of epochs done.
    """

    def __init__(self, sampler: Sampler[int], epoch: Callable[[], int]) -> None:
        self._sampler, self._epoch = sampler, epoch

    def __len__(self) -> int:
        return len(self._sampler)  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[tuple[int, int]]:
        epoch = self._epoch()
        for index in self._sampler:
            yield epoch, index


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

    def __getitem__(self, key: tuple[int, int] | int) -> tuple[Tensor, ...]:
        # Lightning's overfit_batches replaces our sampler by one of plain indices.
        epoch, index = key if isinstance(key, tuple) else (0, key)
        before = torch.get_rng_state()
        try:
            # Not torch.manual_seed: it also seeds every GPU, and those are not given back.
            torch.default_generator.manual_seed(derive_seed(*self._key, epoch, "item", index))
            item: tuple[Tensor, ...] = self._split[index]
            return item
        finally:
            torch.set_rng_state(before)
