"""Threads that stand for processes which have the rows of tensors."""

from threading import Barrier

import torch

from packnet_pl.core.shards import Processes


class Together:
    """Counts of all threads, which wait for each other."""

    def __init__(self, size):
        self.counts, self.barrier = [torch.empty(0)] * size, Barrier(size, timeout=60)

    def sum(self, rank, counts):
        self.counts[rank] = counts.clone()
        self.barrier.wait()
        total = torch.stack(self.counts).sum(0)
        self.barrier.wait()
        return total


class Threads(Processes):
    def __init__(self, together, rank, size):
        self.__dict__.update(together=together, place=rank, number=size)

    rank = property(lambda self: self.place)
    size = property(lambda self: self.number)

    def sum(self, counts):
        return self.together.sum(self.place, counts)


def rows(tensor, rank, size):
    step = -(-len(tensor) // size)
    return tensor[rank * step : (rank + 1) * step]
