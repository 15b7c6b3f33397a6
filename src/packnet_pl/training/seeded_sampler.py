"""Shuffles the samples of each epoch by a seed, the same order however often a fit begins anew."""

from collections.abc import Callable, Iterator

import torch
from torch.utils.data import Sampler

from packnet_pl.data.seeding import derive_seed

__all__ = ["SeededSampler"]


class SeededSampler(Sampler[int]):
    """A permutation per epoch, divided among processes.

    Lightning's own replacement for samplers replays epoch 0 after a resume, so the order comes from the epoch itself.

    Args:
        size: Number of samples.
        key: What the order depends on beside the epoch.
        epoch: Returns the number of epochs done.
        rank: This process, in [0, ``world_size``).
        world_size: Number of processes; each gets ``ceil(size / world_size)`` samples, the first ones filling up.
        skip: Returns how many of this process's samples an interrupted epoch has used already.
    """

    def __init__(
        self,
        size: int,
        key: tuple[str | int, ...],
        epoch: Callable[[], int],
        rank: int = 0,
        world_size: int = 1,
        skip: Callable[[], int] = lambda: 0,
    ) -> None:
        self._size, self._key, self._epoch = size, key, epoch
        self._rank, self._world_size, self._skip = rank, world_size, skip

    def __len__(self) -> int:
        return -(-self._size // self._world_size)

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(derive_seed(*self._key, self._epoch()))
        order = torch.randperm(self._size, generator=generator)
        padded = order[torch.arange(len(self) * self._world_size) % self._size]
        yield from padded[self._rank :: self._world_size].tolist()[self._skip() :]
