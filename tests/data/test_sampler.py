"""The order of the samples."""

import pytest

from packnet_pl.training import SeededSampler

SIZES = [(1, 1), (10, 1), (10, 2), (10, 3), (9, 4), (3, 8)]


def order(size=50, key=(0, "a", "train"), epoch=0, rank=0, world_size=1):
    return list(SeededSampler(size, key, lambda: epoch, rank, world_size))


def test_an_epoch_is_a_permutation():
    assert sorted(order()) == list(range(50))
    assert order() != list(range(50))


def test_the_order_depends_on_every_part_of_the_key_and_on_the_epoch():
    keys = [(0, "a", "train"), (1, "a", "train"), (0, "b", "train"), (0, "a", "retrain")]
    orders = [order(key=key) for key in keys] + [order(epoch=epoch) for epoch in (1, 2)]
    assert len({tuple(found) for found in orders}) == 6


def test_the_order_depends_on_nothing_else():
    first = order(epoch=3)
    order(epoch=7)
    assert order(epoch=3) == first


def test_the_epoch_is_asked_for_at_each_pass():
    epochs = iter([0, 1, 0])
    sampler = SeededSampler(50, (0,), lambda: next(epochs))
    first, second, third = list(sampler), list(sampler), list(sampler)
    assert first == third != second


@pytest.mark.parametrize(("size", "world_size"), SIZES)
def test_ranks_share_one_order_among_them_and_leave_nothing_out(size, world_size):
    parts = [order(size, rank=rank, world_size=world_size) for rank in range(world_size)]
    each = -(-size // world_size)
    assert [len(part) for part in parts] == [each] * world_size
    assert len(SeededSampler(size, (0,), lambda: 0, 0, world_size)) == each
    # Read across the ranks, it is the order of one process, filled up from its own beginning.
    merged = [part[index] for index in range(each) for part in parts]
    whole = order(size)
    assert merged[:size] == whole
    assert merged[size:] == [whole[index % size] for index in range(each * world_size - size)]


def test_ranks_are_disjoint_when_they_divide_evenly():
    parts = [set(order(12, rank=rank, world_size=3)) for rank in range(3)]
    assert sum(len(part) for part in parts) == len(set.union(*parts)) == 12
