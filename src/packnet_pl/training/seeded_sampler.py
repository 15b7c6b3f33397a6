"""Orders the samples of each epoch by a seed, the same order however often a fit begins anew."""

import itertools
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.utils.data import Sampler, WeightedRandomSampler

from packnet_pl.data.augmentation import ItemKey
from packnet_pl.data.seeding import derive_seed

__all__ = ["ItemKeySampler", "SeededSampler"]


class SeededSampler(Sampler[int]):
    """An order per epoch, divided among processes: a permutation, or as many samples drawn by weight.

    Lightning's own replacement for samplers replays epoch 0 after a resume, so the order comes from the epoch itself.

    Args:
        size: Number of samples.
        key: What the order depends on beside the epoch.
        epoch: Returns the number of epochs done.
        rank: This process, in [0, ``world_size``).
        world_size: Number of processes; each gets ``ceil(size / world_size)`` samples, the first ones filling up.
        skip: Returns how many of this process's samples an interrupted epoch has used already.
        weights: One per sample: they are drawn with replacement, with chances in proportion. None: each once.
    """

    def __init__(
        self,
        size: int,
        key: tuple[str | int, ...],
        epoch: Callable[[], int],
        rank: int = 0,
        world_size: int = 1,
        skip: Callable[[], int] = lambda: 0,
        weights: Tensor | None = None,
    ) -> None:
        self._size, self._key, self._epoch, self._weights = size, key, epoch, weights
        self._rank, self._world_size, self._skip = rank, world_size, skip

    def __len__(self) -> int:
        return -(-self._size // self._world_size)

    def __iter__(self) -> Iterator[int]:
        yield from self._mine(self._order(self._epoch()))

    def keys(self) -> Iterator[ItemKey]:
        """Yields the same, each with the epoch and how often the order of all processes has had it before."""
        epoch = self._epoch()
        order = self._order(epoch)
        seen: dict[int, int] = {}
        before = []
        for index in order.tolist() if self._weights is not None else ():
            before.append(seen.get(index, 0))
            seen[index] = before[-1] + 1
        repeats = self._mine(torch.tensor(before)) if before else itertools.repeat(0)
        for index, repeat in zip(self._mine(order), repeats, strict=False):
            yield epoch, index, repeat

    def _order(self, epoch: int) -> Tensor:
        generator = torch.Generator().manual_seed(derive_seed(*self._key, epoch))
        if self._weights is None:
            return torch.randperm(self._size, generator=generator)
        return torch.tensor(list(WeightedRandomSampler(self._weights.tolist(), self._size, generator=generator)))

    def _mine(self, numbers: Tensor) -> list[int]:
        padded = numbers[torch.arange(len(self) * self._world_size) % self._size]
        found: list[int] = padded[self._rank :: self._world_size].tolist()[self._skip() :]
        return found


class ItemKeySampler(Sampler[ItemKey]):
    """Yields all that the random numbers of an item depend on: a loader's worker process knows no epoch.

    Args:
        sampler: Of the indices.
    """

    def __init__(self, sampler: SeededSampler) -> None:
        self._sampler = sampler

    def __len__(self) -> int:
        return len(self._sampler)

    def __iter__(self) -> Iterator[ItemKey]:
        return self._sampler.keys()
