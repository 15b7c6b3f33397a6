"""Seeds that are the same on every machine and forever: resuming an old run depends on them."""

import pytest

from packnet_pl.data import derive_seed

KNOWN = {
    (0,): 2334269327,
    (0, "latin", "train", 0): 437947220,
    (1, "кириллица", "retrain", 12, 3): 4082585154,
}


@pytest.mark.parametrize(("parts", "expected"), KNOWN.items())
def test_seeds_are_what_they_always_were(parts, expected):
    assert derive_seed(*parts) == expected


def test_seeds_tell_apart_what_looks_alike():
    alike = [("1",), (1,), (1, 2), (12,), ("1", "2"), ("12",), ("1', '2",), (2, 1), ("",), ()]
    assert len({derive_seed(*parts) for parts in alike}) == len(alike)


def test_seeds_use_all_of_their_range():
    seeds = [derive_seed(number) for number in range(2000)]
    assert len(set(seeds)) == 2000
    assert all(0 <= seed < 2**32 for seed in seeds)
    assert min(seeds) < 2**26
    assert max(seeds) > 2**32 - 2**26
