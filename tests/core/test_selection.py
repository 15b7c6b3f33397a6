"""The lowest scores: compiled loops over bits, and plain torch, choose what a plain sort does."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from packnet_pl.core import loops, ranking
from packnet_pl.core.loops import pieces
from packnet_pl.core.ranking import Key, Row, key_by_counting, key_by_sampling, key_by_sorting, mark_lowest
from packnet_pl.core.selection import Candidates, lowest
from tests.support.tiny import marked

# Few distinct values make ties common; both zeros and the smallest subnormal are among them.
few = st.sampled_from([-2.0, -1.0, -0.5, -0.0, 0.0, 1e-45, 0.5, 1.0, 2.0])
any_float = st.floats(width=32, allow_nan=False, allow_infinity=False)
entries = st.lists(st.tuples(st.one_of(few, any_float), st.integers(0, 2)), min_size=1, max_size=40)
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def plain(layers: list[Candidates], count: int) -> set[int]:
    """Chosen by a plain sort over all layers together."""
    scores = torch.cat([layer.scores.reshape(-1) for layer in layers]).to(torch.float64)
    mine = torch.cat([(layer.groups == layer.group).reshape(-1) for layer in layers])
    values = (scores.abs() if layers[0].by_magnitude else scores).tolist()
    eligible = [index for index, is_mine in enumerate(mine.tolist()) if is_mine]
    return set(sorted(eligible, key=lambda index: values[index])[:count])


@pytest.mark.parametrize("many", [False, True])
@given(st.lists(entries, min_size=1, max_size=3), st.booleans(), st.sampled_from(FLOATS), st.data())
def test_the_choice_is_that_of_a_plain_sort_by_value_and_index(many, layers, by_magnitude, dtype, data):
    clipped = [([max(-6e4, min(6e4, value)) for value, _ in pairs], [group for _, group in pairs]) for pairs in layers]
    candidates = [
        Candidates("w", torch.tensor(values, dtype=dtype), torch.tensor(groups, dtype=torch.uint8), 1, by_magnitude)
        for values, groups in clipped
    ]
    count = data.draw(st.integers(0, sum(int((layer.groups == 1).sum()) for layer in candidates)))
    chosen = lowest(candidates, count, many=many)
    assert marked(torch.cat(chosen)) == plain(candidates, count)


def test_layers_of_several_types_and_layouts_are_ranked_together():
    torch.manual_seed(0)
    weights = [
        torch.randn(3, 4, 2, 2).to(memory_format=torch.channels_last),
        torch.randn(7).half(),
        torch.randn(5, 5).T,
    ]
    layers = [Candidates("w", weight, torch.ones_like(weight, dtype=torch.bool)) for weight in weights]
    for many in (False, True):
        chosen = lowest(layers, 30, many=many)
        assert marked(torch.cat([mask.reshape(-1) for mask in chosen])) == plain(layers, 30)
        assert [mask.stride() for mask in chosen] == [layer.groups.stride() for layer in layers]


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loops, "_PIECE", 1000)


def row_of(values: np.ndarray, groups: np.ndarray) -> Row:
    return Row(
        values, values.dtype.type(-1 + (1 << 8 * values.itemsize)), groups, np.uint8(1), np.zeros(len(values), bool)
    )


def kinds_of_numbers() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    normal = np.abs(rng.normal(size=20_000)).astype(np.float32).view(np.uint32)
    return {
        "normal": normal,
        "sorted": np.sort(normal),
        "all equal": np.full(20_000, 7, np.uint32),
        "mostly zero": np.where(rng.random(20_000) < 0.9, 0, normal).astype(np.uint32),
        "one far out": np.r_[normal[:-1], [2**32 - 1]].astype(np.uint32),
        "64 bits": normal.astype(np.uint64) << np.uint64(30),
        "16 bits": (normal >> 16).astype(np.uint16),
    }


@pytest.mark.usefixtures("small_pieces")
@pytest.mark.parametrize("kind", kinds_of_numbers())
@pytest.mark.parametrize("share", [0.0001, 0.3, 0.5, 0.97, 1.0])
@pytest.mark.parametrize("few", [0, 1 << 19], ids=["many", "few"])
def test_numbers_in_pieces_are_marked_as_a_stable_sort_marks_them(kind, share, few, monkeypatch):
    values = kinds_of_numbers()[kind]
    groups = np.random.default_rng(1).integers(1, 3, len(values)).astype(np.uint8)
    mine = np.flatnonzero(groups == 1)
    count = max(1, round(share * len(mine)))
    row = row_of(values, groups)
    monkeypatch.setattr(ranking, "_FEW", few)
    mark_lowest([row[:5000], row[5000:]], count)
    expected = np.zeros(len(values), bool)
    expected[mine[np.argsort(values[mine], kind="stable")[:count]]] = True
    assert np.array_equal(row.chosen, expected)
    found = key_by_sorting([row], count)
    assert found.key == np.sort(values[mine])[count - 1]
    assert key_by_counting([row], count) == found
    assert key_by_sampling([row], count) in (None, found)


def test_a_sample_tells_where_a_rank_is_and_says_so_if_it_cannot():
    size = 1_000_000
    normal, groups = np.abs(np.random.default_rng(0).normal(size=size)).astype(np.float32), np.ones(size, np.uint8)
    row = row_of(normal.view(np.uint32), groups)
    assert key_by_sampling([row], size // 2) == key_by_counting([row], size // 2)
    assert key_by_sampling([row_of(np.full(size, 7, np.uint32), groups)], size // 2) == Key(7, size // 2, [size])
    zeros = np.where(np.random.default_rng(1).random(size) < 0.4, 0, normal.view(np.uint32)).astype(np.uint32)
    assert key_by_sampling([row_of(zeros, groups)], round(0.401 * size)) is None
    # Every number that is looked at first is among the highest: the rank lies outside the bounds.
    misleading = normal.view(np.uint32).copy()
    misleading[:: 1 << 8] = 2**31
    row = row_of(misleading, groups)
    assert key_by_sampling([row], size // 2) is None
    row.chosen[:] = True
    mark_lowest([row], size // 2)
    assert row.chosen.sum() == size // 2
    assert misleading[row.chosen].max() <= misleading[~row.chosen].min()


@pytest.mark.parametrize("share", [0.4, 0.47, 0.5, 0.53, 0.6])
def test_exactly_as_many_are_chosen_where_a_small_layer_has_all_its_weights_near_the_threshold(share):
    torch.manual_seed(0)
    usual = torch.randn(1 << 19)
    for size in (3 << 16, 1 << 15):
        near = usual.abs().median() * (1 + 1e-3 * torch.randn(size))
        layers = [
            Candidates("w", each, torch.ones_like(each, dtype=torch.uint8), by_magnitude=True) for each in (near, usual)
        ]
        count = round(share * ((1 << 19) + size))
        found, expected = lowest(layers, count, many=True), lowest(layers, count)
        assert sum(int(mask.sum()) for mask in found) == count
        assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("every", [256, 512])
def test_exactly_as_many_are_chosen_where_no_candidate_lies_where_a_sample_is_taken(every):
    torch.manual_seed(0)
    weight, owner = torch.randn(600, 1024), torch.full((600, 1024), 2, dtype=torch.uint8)
    owner[:, ::every] = 1
    for task, count in ((2, 300_000), (1, 600)):
        layers = [Candidates("w", weight, owner, task, by_magnitude=True)]
        found, expected = lowest(layers, count, many=True), lowest(layers, count)
        assert int(found[0].sum()) == count
        assert torch.equal(found[0], expected[0])


def test_a_key_says_how_many_of_its_ties_are_chosen():
    row = row_of(np.array([5, 1, 5, 5, 9], np.uint32), np.ones(5, np.uint8))
    assert key_by_counting([row[:3], row[3:]], 3) == key_by_sorting([row[:3], row[3:]], 3) == Key(5, 2, [2, 1])
    assert [piece.stop for piece in pieces(5)] == [5]


@pytest.mark.parametrize("many", [False, True])
@pytest.mark.parametrize("by_magnitude", [False, True])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_scores_that_are_not_finite_are_refused_by_name_whoever_owns_them(many, by_magnitude, dtype, value):
    fine, bad = torch.randn(50, dtype=dtype), torch.randn(60, dtype=dtype)
    bad[33] = value
    owner = torch.ones(60, dtype=torch.uint8)
    owner[33] = 2
    layers = [Candidates("a", fine, owner[:50], 2, by_magnitude), Candidates("b", bad, owner, 1, by_magnitude)]
    for count in (0, 1, 40):
        with pytest.raises(ValueError, match="b holds NaN or infinity"):
            lowest(layers, count, many=many)
    bad[33] = torch.finfo(dtype).max
    assert sum(int(mask.sum()) for mask in lowest(layers, 40, many=many)) == 40
