"""Processes that have the rows of weights choose what one process with all rows would; threads stand for them here."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from packnet_pl.core.selection import Candidates, lowest
from packnet_pl.core.sharded_selection import lowest_of_all
from tests.support.threads import Threads, Together, rows

SHAPES = [(7, 3), (2, 5), (1, 4), (10,), (5, 2, 2)]


def chosen(groups, counts, size, *, loops=0):
    together = Together(size)

    def work(rank):
        own = [
            [
                Candidates(c.name, rows(c.scores, rank, size), rows(c.groups, rank, size), c.group, c.by_magnitude)
                for c in group
            ]
            for group in groups
        ]
        return lowest_of_all(own, counts, Threads(together, rank, size), many=rank < loops)

    with ThreadPoolExecutor(size) as pool:
        parts = list(pool.map(work, range(size)))
    return [[torch.cat(of_layer) for of_layer in zip(*of_group, strict=True)] for of_group in zip(*parts, strict=True)]


def layers(dtype, seed, *, by_magnitude):
    generator = torch.Generator().manual_seed(seed)
    spread = 1 - seed  # 0: all are zero, of both signs
    for shape in SHAPES:
        scores = (torch.randn(shape, generator=generator) * spread).round(decimals=1).to(dtype)
        owner = torch.randint(0, 3, shape, generator=generator, dtype=torch.uint8)
        yield Candidates("a layer", scores, owner, 1, by_magnitude=by_magnitude)


@pytest.mark.parametrize("by_magnitude", [True, False])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize(("size", "loops"), [(2, 0), (2, 2), (3, 0), (3, 1)])
def test_each_layer_and_all_together(size, loops, dtype, by_magnitude):
    for seed in range(2):
        given = list(layers(dtype, seed, by_magnitude=by_magnitude))
        owned = [int((layer.groups == 1).sum()) for layer in given]
        for share in (0.0, 0.3, 1.0):
            counts = [round(share * number) for number in owned]
            expected = [lowest([layer], count)[0] for layer, count in zip(given, counts, strict=True)]
            found = chosen([[layer] for layer in given], counts, size, loops=loops)
            assert all(torch.equal(one, other) for one, (other,) in zip(expected, found, strict=True))
            count = round(share * sum(owned))
            assert all(map(torch.equal, lowest(given, count), chosen([given], [count], size, loops=loops)[0]))


def test_types_that_differ_are_ranked_by_value():
    given = list(layers(torch.float32, 0, by_magnitude=True))
    given[1:3] = list(layers(torch.bfloat16, 0, by_magnitude=True))[1:3]
    count = sum(int((layer.groups == 1).sum()) for layer in given) // 2
    assert all(map(torch.equal, lowest(given, count), chosen([given], [count], 3, loops=2)[0]))
    # Each in a group of its own, keys have as many bits as their type.
    counts = [int((layer.groups == 1).sum()) // 2 for layer in given]
    found = chosen([[layer] for layer in given], counts, 2, loops=1)
    for layer, count, (mask,) in zip(given, counts, found, strict=True):
        assert torch.equal(lowest([layer], count)[0], mask)
