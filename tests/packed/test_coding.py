"""Owner maps in few bytes."""

import zlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from packnet_pl.packed.owner_coding import MOST_WEIGHTS_PER_BYTE, decode_owners, encode_owners, select, spread


def drawn(counts, seed=0):
    """An owner map with these counts, in random order."""
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(counts), dtype=np.uint8), counts))


@given(st.lists(st.integers(0, 40), min_size=1, max_size=12), st.integers(0, 3))
def test_every_map_comes_back(counts, seed):
    owners = drawn(counts, seed)
    coded = encode_owners(owners, counts)
    assert np.array_equal(decode_owners(coded, counts), owners)
    assert encode_owners(owners.copy(), counts) == coded


def test_255_tasks_and_a_map_longer_than_a_chunk_come_back():
    for counts in ([7] * 256, [0] * 255 + [9], [300_000, 200_000, 0, 100_001]):
        owners = drawn(counts)
        assert np.array_equal(decode_owners(encode_owners(owners, counts), counts), owners)


def test_one_owner_takes_no_bytes():
    assert encode_owners(np.full(1000, 3, np.uint8), [0, 0, 0, 1000]) == b""
    assert np.array_equal(decode_owners(b"", [0, 0, 0, 1000]), np.full(1000, 3, np.uint8))
    assert decode_owners(b"", [0, 0]).size == 0


@pytest.mark.parametrize(
    ("shares", "allowed"), [((0.28125, 0.5, 0.125, 0.09375), 1.01), ((0.9, 0.06, 0.03, 0.01), 1.025)]
)
def test_the_size_is_near_the_entropy(shares, allowed):
    counts = [round(share * 2_000_000) for share in shares]
    entropy = -sum(share * np.log2(share) for share in shares)
    bits = 8 * len(encode_owners(drawn(counts), counts)) / sum(counts)
    assert entropy <= bits < allowed * entropy


def test_layers_with_other_shares_are_each_near_their_own_entropy():
    for counts in ([10_000, 90_000], [50_000, 50_000], [75_000, 20_000, 5_000]):
        entropy = -sum(count * np.log2(count / 100_000) for count in counts)
        assert 8 * len(encode_owners(drawn(counts), counts)) < 1.03 * entropy + 1000


def test_no_map_is_coded_in_fewer_bytes_than_the_reader_allows():
    for one in (1, 3):
        counts = [4_000_000, one]
        assert sum(counts) <= MOST_WEIGHTS_PER_BYTE * len(encode_owners(drawn(counts), counts))


@given(st.binary(max_size=60), st.lists(st.integers(0, 30), min_size=1, max_size=5))
def test_any_bytes_give_a_map_with_these_counts_or_an_error(coded, counts):
    try:
        owners = decode_owners(coded, counts)
    except ValueError:
        return
    assert np.bincount(owners, minlength=len(counts)).tolist() == counts


def test_what_does_not_belong_together_is_refused():
    counts = [5, 100, 20]
    coded = encode_owners(drawn(counts), counts)
    for wrong in ([5, 101, 20], [5, 100], [0, 125, 0], [5, 1000, 20]):
        with pytest.raises(ValueError, match=r"owner"):
            decode_owners(coded, wrong)
    for wrong in (coded[:-1], coded + b"x", b"", b"text", zlib.compress(bytes(1000))):
        with pytest.raises(ValueError, match=r"owners cannot be|owners are not"):
            decode_owners(wrong, counts)


def test_a_bomb_is_not_unfolded():
    bomb = zlib.compress(bytes(50_000_000), 9)
    with pytest.raises(ValueError, match="cannot be coded in"):
        decode_owners(bomb, [400_000_000 - 1, 1])
    with pytest.raises(ValueError, match="and no more"):
        decode_owners(bomb, [1000, 1])


@given(st.lists(st.booleans(), max_size=50))
def test_selecting_and_spreading_are_each_others_inverse(chosen):
    mask = np.array(chosen, bool)
    values = np.arange(1, mask.size + 1, dtype=np.int32)
    assert np.array_equal(select(values, mask), values[mask])
    target = np.zeros_like(values)
    spread(target, mask, values[mask])
    assert np.array_equal(target, np.where(mask, values, 0))
