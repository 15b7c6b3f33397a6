import copy
import math
import re

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from packnet_pl.core import PackNet, PruneRule
from packnet_pl.core.finite import check_finite
from packnet_pl.core.releases import choose_releases
from packnet_pl.core.slots import Slot
from tests.support.tiny import bits, equal, marked, plain_choice, same_bits, snapshot

# Few distinct magnitudes make ties common; both zeros and the smallest subnormal are among them.
few = st.sampled_from([-2.0, -1.0, -0.5, -0.0, 0.0, 1e-45, 0.5, 1.0, 2.0])
any_float = st.floats(width=32, allow_nan=False, allow_infinity=False)
entries = st.lists(st.tuples(st.one_of(few, any_float), st.booleans()), min_size=1, max_size=40)
ratios = st.floats(0, 1, exclude_max=True)


def linear_with(values, dtype=torch.float32):
    layer = nn.Linear(len(values), 1, bias=False, dtype=dtype)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([values], dtype=dtype))
    return layer


def begun(module):
    packnet = PackNet(module)
    packnet.begin_task("a")
    return packnet


def assert_pruned_like_a_plain_sort(packnet, before, name, ratio):
    """For a first task that owns every weight."""
    weight, values = packnet.module.get_parameter(name), before.reshape(-1).tolist()
    expected = plain_choice(values, [True] * len(values), round(ratio * len(values)))
    assert marked(packnet.owners[name] == 0) == expected
    survivors = [0.0 if index in expected else value for index, value in enumerate(values)]
    assert same_bits(weight.reshape(-1), torch.tensor(survivors, dtype=weight.dtype))


@pytest.mark.parametrize("scope", ["", "Layer", "network", None])
def test_other_scopes_are_refused_with_what_was_given(scope):
    with pytest.raises(ValueError, match=rf"prune scope is {scope!r}; allowed are 'layer' .*'global'"):
        PruneRule(scope=scope)


@pytest.mark.parametrize("granularity", ["", "Filter", "channel", None])
def test_other_granularities_are_refused_with_what_was_given(granularity):
    said = f"prune granularity is {granularity!r}; allowed are 'weight' (the paper's) and 'filter'"
    with pytest.raises(ValueError, match=re.escape(said)):
        PruneRule(granularity=granularity)


def test_a_score_has_to_be_a_function():
    with pytest.raises(ValueError, match="prune score is 'magnitude'; it takes a function of a layer's weight"):
        PruneRule(score="magnitude")


def test_a_rule_and_its_short_forms_are_not_given_both():
    packnet = begun(linear_with([1.0, 2.0]))
    with pytest.raises(ValueError, match=r"scope='global' was given beside rule=.*: PruneRule\(scope='global'\)"):
        packnet.prune(0.5, rule=PruneRule(granularity="filter"), scope="global")
    with pytest.raises(ValueError, match=r"rule is 'global'; it takes a PruneRule\(score, scope, granularity\)"):
        packnet.prune(0.5, rule="global")
    assert packnet.phase == "train"


@pytest.mark.parametrize(
    "choices", [{}, {"scope": "global"}, {"granularity": "filter"}, {"scope": "global", "granularity": "filter"}]
)
def test_the_short_forms_are_that_rule(choices):
    torch.manual_seed(0)
    first = nn.Sequential(nn.Conv2d(2, 5, 3), nn.Linear(4, 3))
    packnets = [begun(first), begun(copy.deepcopy(first))]
    packnets[0].prune(0.4, **choices)
    packnets[1].prune(0.4, rule=PruneRule(**choices))
    assert equal(snapshot(packnets[0]), snapshot(packnets[1]))


def distance_from_one(weight):
    return (weight - 1).abs()


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_a_score_of_ones_own_says_which_weights_go_first(scope):
    packnet = begun(linear_with([0.0, 0.9, 5.0, 1.0]))
    packnet.prune(0.5, rule=PruneRule(distance_from_one, scope))
    assert packnet.owners["weight"].tolist() == [[1, 0, 1, 0]]


def test_a_score_may_work_in_place():
    packnet = begun(linear_with([-3.0, 1.0]))
    packnet.prune(0.5, rule=PruneRule(torch.Tensor.abs_))
    assert packnet.module.weight.tolist() == [[-3.0, 0.0]]


@pytest.mark.parametrize(
    ("score", "said"),
    [
        (lambda w: w.sum(0), r"the prune score of weight is torch\.float32 \(2,\); it must be a float per entry"),
        (lambda w: w > 0, r"the prune score of weight is torch\.bool \(1, 2\)"),
        (lambda w: None, "the prune score of weight is a NoneType"),
        (lambda w: w / 0, "the prune score of weight holds NaN or infinity"),
    ],
)
def test_scores_that_cannot_be_ranked_are_refused_before_anything_changes(score, said):
    packnet = begun(linear_with([0.0, 2.0]))
    before = snapshot(packnet)
    with pytest.raises(ValueError, match=said):
        packnet.prune(0.5, rule=PruneRule(score))
    assert equal(snapshot(packnet), before)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_values_that_are_not_finite_are_refused_by_name(value):
    check_finite("fc.weight", torch.zeros(2))
    with pytest.raises(ValueError, match=r"fc\.weight holds NaN or infinity"):
        check_finite("fc.weight", torch.tensor([0.0, value]))


def slots(weights):
    layer = nn.Module()
    layer._parameters.update(weights)
    return {name: Slot(layer, name, is_parameter=True, is_saved=True) for name in weights}


@given(entries, ratios)
def test_exactly_the_rounded_share_is_released_and_nothing_larger(pairs, ratio):
    values, eligible = [value for value, _ in pairs], [mine for _, mine in pairs]
    weight, mine = torch.tensor(values), torch.tensor(eligible)
    released = choose_releases(slots({"w": weight}), {"w": mine.byte()}, 1, ratio, PruneRule())["w"]
    assert int(released.sum()) == round(ratio * sum(eligible))
    assert not (released & ~mine).any()
    kept = weight[mine & ~released].abs()
    if released.any() and kept.numel():
        assert weight[released].abs().max() <= kept.min()


@given(st.lists(entries, min_size=1, max_size=4), ratios)
def test_global_scope_ranks_all_layers_together(layers, ratio):
    weights = {str(i): torch.tensor([value for value, _ in pairs]) for i, pairs in enumerate(layers)}
    eligible = {str(i): torch.tensor([mine for _, mine in pairs]).byte() for i, pairs in enumerate(layers)}
    released = choose_releases(slots(weights), eligible, 1, ratio, PruneRule(scope="global"))
    flat = [pair for pairs in layers for pair in pairs]
    count = round(ratio * sum(mine for _, mine in flat))
    expected = plain_choice([value for value, _ in flat], [mine for _, mine in flat], count)
    assert marked(torch.cat(list(released.values()))) == expected


@given(st.lists(st.integers(1, 30), min_size=1, max_size=4), ratios)
def test_layer_scope_counts_each_layer_by_itself(sizes, ratio):
    weights = {str(i): torch.randn(size) for i, size in enumerate(sizes)}
    eligible = {name: torch.ones_like(weight, dtype=torch.uint8) for name, weight in weights.items()}
    released = choose_releases(slots(weights), eligible, 1, ratio, PruneRule())
    assert [int(mask.sum()) for mask in released.values()] == [round(ratio * size) for size in sizes]


def test_halves_are_rounded_to_even_as_python_does():
    for owned, count in [(1, 0), (3, 2), (5, 2), (7, 4)]:
        packnet = begun(nn.Linear(owned, 1, bias=False))
        packnet.prune(0.5)
        assert packnet.summary().total.free == count


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("value", [0.0, -0.0, 0.25, -3.0])
def test_equal_weights_are_released_from_the_lowest_index_on(value, scope):
    packnet = begun(linear_with([value] * 7))
    packnet.prune(0.4, scope=scope)
    assert packnet.owners["weight"].tolist() == [[0, 0, 0, 1, 1, 1, 1]]


def test_signs_do_not_break_a_tie():
    packnet = begun(linear_with([1.0, -1.0, 1.0, -1.0]))
    packnet.prune(0.5)
    assert packnet.owners["weight"].tolist() == [[0, 0, 1, 1]]


@pytest.mark.parametrize("values", [[-0.0, 0.0, 5.0], [0.0, -0.0, 5.0]])
def test_negative_zero_ties_with_zero(values):
    packnet = begun(linear_with(values))
    packnet.prune(1 / 3)
    assert packnet.owners["weight"].tolist() == [[0, 1, 1]]


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_released_weights_become_positive_zero(scope):
    packnet = begun(linear_with([-0.0, -1.0, 0.0, -2.0, -3.0, -4.0]))
    packnet.prune(0.5, scope=scope)
    assert same_bits(packnet.module.weight, torch.tensor([[0.0, 0.0, 0.0, -2.0, -3.0, -4.0]]))


def test_ratio_zero_releases_nothing_and_goes_on_to_retraining():
    packnet = begun(linear_with([0.0, -0.0, 1.0]))
    before = bits(packnet.module.weight)
    packnet.prune(0)
    assert torch.equal(bits(packnet.module.weight), before)
    assert packnet.owners["weight"].tolist() == [[1, 1, 1]]
    assert packnet.phase == "retrain"


@pytest.mark.parametrize(("ratio", "owner"), [(0, 1), (0.5, 1), (0.51, 0), (0.99, 0)])
def test_a_single_weight_is_kept_or_released_whole(ratio, owner):
    packnet = begun(linear_with([3.0]))
    packnet.prune(ratio)
    assert packnet.owners["weight"].tolist() == [[owner]]
    assert packnet.module.weight.tolist() == [[3.0 * owner]]


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_ties_go_by_the_logical_index_in_channels_last_memory(scope, ties):
    layer = nn.Conv2d(3, 4, 2, bias=False).to(memory_format=torch.channels_last)
    if ties:
        nn.init.ones_(layer.weight)
    assert not layer.weight.is_contiguous()
    packnet, before, strides = begun(layer), layer.weight.detach().clone(), layer.weight.stride()
    packnet.prune(0.3, scope=scope)
    assert_pruned_like_a_plain_sort(packnet, before, "weight", 0.3)
    assert layer.weight.stride() == strides


@pytest.mark.parametrize("ties", [True, False])
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_parameters_that_are_not_contiguous_are_pruned_in_place(scope, ties):
    layer = nn.Linear(5, 6, bias=False)
    layer.weight = nn.Parameter((torch.ones if ties else torch.randn)(5, 12)[:, ::2].t())
    assert not layer.weight.is_contiguous()
    packnet, before = begun(layer), layer.weight.detach().clone()
    packnet.prune(0.7, scope=scope)
    assert_pruned_like_a_plain_sort(packnet, before, "weight", 0.7)


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_every_float_type_is_ranked_exactly(dtype, scope):
    layer = nn.Linear(40, 30, bias=False).to(dtype)
    packnet, before = begun(layer), layer.weight.detach().clone()
    packnet.prune(0.6, scope=scope)
    assert_pruned_like_a_plain_sort(packnet, before, "weight", 0.6)


def test_mixed_types_are_ranked_together_without_rounding():
    double = linear_with([1 - 1e-12, 1 + 1e-12], torch.float64)
    net = nn.Sequential(linear_with([1.0, 2.0]), double, linear_with([1.0, 0.5], torch.bfloat16))
    packnet = begun(net)
    packnet.prune(1 / 3, scope="global")
    # In float32, 1 - 1e-12 would tie with the 1.0 that stands before it.
    assert {name: owner.tolist() for name, owner in packnet.owners.items()} == {
        "0.weight": [[1, 1]],
        "1.weight": [[0, 1]],
        "2.weight": [[1, 0]],
    }
    assert [layer.weight.dtype for layer in net] == [torch.float32, torch.float64, torch.bfloat16]


def test_counts_are_exact_beyond_what_float32_can_count():
    layer = nn.Linear(4097, 4096, bias=False)
    nn.init.ones_(layer.weight)
    packnet, count = begun(layer), 2**24 + 2419
    packnet.prune(count / layer.weight.numel())
    free = packnet.owners["weight"].reshape(-1) == 0
    assert packnet.summary().total.free == count
    assert bool(free[:count].all())
    assert not bool(layer.weight.detach().reshape(-1)[:count].any())


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("second_task", [False, True])
def test_a_diverged_weight_is_refused_by_name_before_anything_changes(second_task, value, scope):
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    packnet = PackNet(net)
    if second_task:
        packnet.begin_task("first")
        packnet.prune(0.5)
        packnet.finish_task()
    packnet.begin_task("a")
    mine = packnet.owners["1.weight"] == len(packnet.tasks) + 1
    with torch.no_grad():
        net[1].weight[tuple(mine.nonzero()[0])] = value
    before = snapshot(packnet)
    with pytest.raises(ValueError, match=r"1\.weight holds NaN or infinity"):
        packnet.prune(0.5, scope=scope)
    assert equal(snapshot(packnet), before)
    assert packnet.phase == "train"
    packnet.abort_task()
    assert torch.isfinite(net[1].weight).all()
