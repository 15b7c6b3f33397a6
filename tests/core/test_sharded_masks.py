"""Masks of rows: what processes know together is what one process with all rows knows."""

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from packnet_pl.core.mixed_sums import sums
from packnet_pl.core.packed_bits import pack_mask
from packnet_pl.core.sharded_masks import names_with_entries, packed_stretches
from tests.support.threads import Threads, Together, rows

SHAPES = [(7, 3), (2, 5), (1, 4), (10,), (5, 2, 2), (6, 1), (3, 8), (9, 11)]


def masks():
    generator = torch.Generator().manual_seed(0)
    return {str(shape): torch.rand(shape, generator=generator) < 0.5 for shape in SHAPES}


def in_threads(size, work):
    together = Together(size)
    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(lambda rank: work(Threads(together, rank, size)), range(size)))


@pytest.mark.parametrize("size", [1, 2, 3, 5, 8])
def test_bytes_of_all_rows_are_those_of_the_whole_mask(size):
    whole = masks()

    def work(processes):
        own = {name: pack_mask(rows(mask, processes.rank, size)) for name, mask in whole.items()}
        return packed_stretches(own, whole, processes)

    parts = in_threads(size, work)
    for name, mask in whole.items():
        packed = pack_mask(mask)
        begun = [(part[name].start, part[name].part) for part in parts if len(part[name].part)]
        assert torch.equal(torch.cat([part for _, part in begun]), packed)
        assert [start for start, _ in begun] == [sum(len(part) for _, part in begun[:i]) for i in range(len(begun))]


def test_a_sum_over_stretches_is_that_of_the_whole_mask():
    whole = masks()

    def work(processes):
        own = {name: pack_mask(rows(mask, processes.rank, 3)) for name, mask in whole.items()}
        return sums({**packed_stretches(own, whole, processes), "plain": torch.ones(3)})

    expected = sums({**{name: pack_mask(mask) for name, mask in whole.items()}, "plain": torch.ones(3)})
    assert in_threads(3, work) == [expected] * 3


def test_names_are_those_with_an_entry_in_any_process():
    found = in_threads(
        2, lambda p: names_with_entries({n: torch.tensor([p.rank == 1, False]) & (n == "a") for n in "ab"}, p)
    )
    assert found == [["a"], ["a"]]
    assert names_with_entries({"a": torch.tensor([True]), "b": torch.tensor([False])}, None) == ["a"]
