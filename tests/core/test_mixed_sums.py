"""Sums of mixed entries: compiled loop, batches of torch and a plain reference agree to the last bit."""

from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from packnet_pl.core import loops, mixed_sums
from packnet_pl.core.mixed_sums import sums, sums_by_owner

WIDTHS = {
    torch.float16: torch.int16,
    torch.bfloat16: torch.int16,
    torch.float32: torch.int32,
    torch.float64: torch.int64,
}
MASK = (1 << 64) - 1


def reference(weight, owner):
    """SplitMix64 in Python's integers, entry by entry."""
    found = [0] * 256
    bits = weight.contiguous().view(WIDTHS[weight.dtype]).reshape(-1).tolist()
    for index, (number, task) in enumerate(zip(bits, owner.reshape(-1).tolist(), strict=True)):
        mixed = (number + (index + 1) * 0x9E3779B97F4A7C15) & MASK
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & MASK
        found[task] = (found[task] + (mixed ^ (mixed >> 31))) & MASK
    return found


def laid_out(tensor, order):
    """The same values, in memory as if the dimensions stood in another ``order``."""
    back = [order.index(dimension) for dimension in range(len(order))]
    return tensor.permute(order).contiguous().permute(back)


@st.composite
def weights_with_owners(draw):
    shape = draw(st.lists(st.integers(0, 6), max_size=4))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    weight = torch.randn(shape, generator=generator).to(draw(st.sampled_from(list(WIDTHS))))
    for special in (-0.0, 0.0, torch.nan, torch.inf):
        weight[torch.rand(shape, generator=generator) < 0.1] = special
    owner = torch.randint(0, draw(st.sampled_from([1, 2, 5, 256])), shape, dtype=torch.uint8, generator=generator)
    orders = st.permutations(range(len(shape)))
    return laid_out(weight, draw(orders)), laid_out(owner, draw(orders))


@pytest.mark.parametrize("by", ["loop", "torch"])
@settings(max_examples=60)
@given(given=st.lists(weights_with_owners(), min_size=1, max_size=3), piece=st.sampled_from([3, 40, 1 << 16]))
def test_every_way_has_the_sums_of_the_reference(by, given, piece):
    weights = {number: weight for number, (weight, _) in enumerate(given)}
    owners = {number: owner for number, (_, owner) in enumerate(given)}
    expected = {number: reference(weights[number], owners[number]) for number in weights}
    sizes = mock.patch.multiple(mixed_sums, _PIECE=piece, _BATCH_ON_CPU=piece)
    with sizes, mock.patch.object(loops, "MANY", 0 if by == "loop" else 1 << 62):
        assert sums_by_owner(weights, owners) == expected
        assert sums(weights) == {number: sum(found) & MASK for number, found in expected.items()}


@pytest.mark.parametrize("threads", [1, 2])
def test_threads_take_pieces_of_one_large_weight(threads):
    weight, owner = torch.randn(3000, 1500), torch.randint(0, 5, (3000, 1500), dtype=torch.uint8)
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        found = sums_by_owner({0: weight}, {0: owner})[0]
    finally:
        torch.set_num_threads(before)
    with mock.patch.object(loops, "MANY", 1 << 62):
        assert sums_by_owner({0: weight}, {0: owner})[0] == found


@given(st.integers(0, 99), st.integers(0, 31))
def test_any_one_bit_shows_in_the_sum_of_its_owner_alone(entry, bit):
    weight, owner = torch.arange(100.0), torch.arange(100, dtype=torch.uint8) % 3
    before = sums_by_owner({0: weight}, {0: owner})[0]
    weight.view(torch.int32)[entry] ^= -(1 << 31) if bit == 31 else 1 << bit
    after = sums_by_owner({0: weight}, {0: owner})[0]
    assert [task for task in range(256) if before[task] != after[task]] == [entry % 3]
