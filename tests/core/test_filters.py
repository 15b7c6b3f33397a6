"""Whole filters are released: which ones, how many, and what is refused."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from packnet_pl.capacity import forecast
from packnet_pl.core import PackNet, PruneRule
from packnet_pl.core.filters import filter_norms, filter_rows
from packnet_pl.core.pruning import check_rule, count_units
from packnet_pl.core.releases import choose_releases
from packnet_pl.core.slots import Slot
from tests.support.tiny import TinyNet, equal, marked, pack, plain_choice, snapshot, train

# Squares and their sums are exact for these, and equal norms of unequal filters are common.
whole = st.integers(-3, 3)
ratios = st.floats(0, 1, exclude_max=True)
shapes = st.tuples(st.integers(1, 6), st.integers(1, 4))

FILTERS = PruneRule(granularity="filter")


def linear(rows):
    layer = nn.Linear(len(rows[0]), len(rows), bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(rows, dtype=torch.float32))
    return layer


def weight_of(layer):
    return Slot(layer, "weight", is_parameter=True, is_saved=True)


def begun(module):
    packnet = PackNet(module)
    packnet.begin_task("a")
    return packnet


def filters_of(owner):
    """The owner of each filter; fails if one has several."""
    rows = owner.reshape(len(owner), -1)
    assert bool((rows == rows[:, :1]).all()), "a filter has several owners"
    return rows[:, 0].tolist()


@given(st.lists(st.lists(whole, min_size=3, max_size=3), min_size=1, max_size=9), ratios, st.data())
def test_the_smallest_norms_go_and_ties_go_by_the_index(rows, ratio, data):
    mine = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    layer, mask = linear(rows), torch.tensor(mine).unsqueeze(1).expand(-1, 3)
    released = choose_releases({"w": weight_of(layer)}, {"w": mask.byte()}, 1, ratio, FILTERS)["w"]
    expected = plain_choice([sum(value**2 for value in row) for row in rows], mine, round(ratio * sum(mine)))
    assert marked(released) == {3 * f + i for f in expected for i in range(3)}


@given(st.lists(shapes, min_size=1, max_size=4), ratios, st.data())
def test_global_scope_ranks_the_filters_of_all_layers_together(sizes, ratio, data):
    rows = [data.draw(st.lists(st.lists(whole, min_size=i, max_size=i), min_size=o, max_size=o)) for o, i in sizes]
    packnet = begun(nn.Sequential(*map(linear, rows)))
    packnet.prune(ratio, scope="global", granularity="filter")
    norms = [sum(value**2 for value in row) for layer in rows for row in layer]
    expected = plain_choice(norms, [True] * len(norms), round(ratio * len(norms)))
    owners = [owner for layer in packnet.owners.values() for owner in filters_of(layer)]
    assert {f for f, owner in enumerate(owners) if owner == 0} == expected


@given(st.lists(ratios, min_size=1, max_size=4), st.sampled_from(["layer", "global"]))
def test_the_forecast_in_filters_is_what_happens(chosen, scope):
    net = nn.Sequential(nn.Conv2d(2, 5, 3), nn.Flatten(), nn.LazyLinear(7), nn.Linear(7, 1))
    net(torch.zeros(1, 2, 4, 4))
    packnet = PackNet(net)
    slots = {f"{number}.weight": weight_of(net[number]) for number in (0, 2, 3)}
    for number, (owned, free) in enumerate(forecast([5, 7, 1], chosen, scope=scope), start=1):
        if packnet.summary().total.free == 0:
            assert (owned, free) == (0, 0)
            continue
        packnet.begin_task(f"task {number}")
        packnet.prune(chosen[number - 1], scope=scope, granularity="filter")
        packnet.finish_task()
        for wanted, count in ((number, owned), (0, free)):
            found = [count_units(name, slots[name], o, wanted, "filter") for name, o in packnet.owners.items()]
            assert sum(found) == count


def test_each_layer_releases_exactly_the_rounded_share_of_its_filters():
    packnet = begun(nn.Sequential(nn.Conv1d(3, 5, 2), nn.Conv2d(2, 7, 3), nn.Conv3d(1, 3, 2), nn.Linear(9, 1)))
    packnet.prune(0.5, granularity="filter")
    assert [filters_of(owner).count(0) for owner in packnet.owners.values()] == [2, 4, 2, 0]
    for name, owner in packnet.owners.items():
        assert not packnet.module.get_parameter(name)[owner == 0].any()


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_a_released_filter_is_an_output_channel_that_says_nothing(kind, groups):
    layer = kind(4, 6, 3, groups=groups, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.randn_like(layer.weight))
    packnet, before = begun(layer), layer.weight.detach().clone()
    norms = filter_rows("w", weight_of(layer), before).square().sum(1)
    packnet.prune(0.5, granularity="filter")
    silent = [not channel.any() for channel in layer(torch.randn(2, 4, 5, 5)).transpose(0, 1)]
    assert silent == [float(norm) <= norms.sort().values[2] for norm in norms]
    assert sum(silent) == 3
    # The others are, to the bit, what they were, and no weight of a silent one is left.
    kept = packnet.owners["weight"] == 1
    assert torch.equal(layer.weight[kept], before[kept])
    assert int(kept.sum()) == before.numel() // 2


def test_depthwise_filters_are_single_channels():
    layer = nn.Conv2d(3, 3, 1, groups=3, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([2.0, -1.0, 3.0]).view(3, 1, 1, 1))
    packnet = begun(layer)
    packnet.prune(1 / 3, granularity="filter")
    assert filters_of(packnet.owners["weight"]) == [1, 0, 1]


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("size", [7, 1000])
def test_equal_filters_are_released_from_the_lowest_index_on(scope, size):
    packnet = begun(linear(torch.randn(1, size).expand(9, size).tolist()))
    packnet.prune(0.4, scope=scope, granularity="filter")
    assert filters_of(packnet.owners["weight"]) == [0, 0, 0, 0, 1, 1, 1, 1, 1]


def test_memory_layout_changes_nothing():
    layer = nn.Conv2d(8, 6, 3, bias=False)
    other = nn.Conv2d(8, 6, 3, bias=False).to(memory_format=torch.channels_last)
    other.load_state_dict(layer.state_dict())
    strides = other.weight.stride()
    for packnet in (begun(layer), begun(other)):
        packnet.prune(0.5, granularity="filter")
    assert torch.equal(layer.weight, other.weight)
    assert other.weight.stride() == strides != layer.weight.stride()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_norms_are_taken_in_double_precision(dtype):
    rows = torch.tensor([[300.0, 300.0], [1e-3, 1e-3]], dtype=dtype)
    expected = [sum(float(value) ** 2 for value in row) for row in rows]
    layer = nn.Linear(2, 2)
    assert filter_norms("w", weight_of(layer), rows).tolist() == expected
    assert filter_norms("w", weight_of(nn.Linear(3, 0)), torch.zeros(0, 3)).shape == (0,)


def test_the_norm_counts_and_not_the_largest_weight():
    packnet = begun(linear([[2.0, 2.0], [2.5, 0.0]]))
    packnet.prune(0.5, granularity="filter")
    assert filters_of(packnet.owners["weight"]) == [1, 0]


def test_a_score_of_ones_own_ranks_filters_by_the_norm_of_its_scores():
    packnet = begun(linear([[0.0, 0.0], [1.0, 1.5], [9.0, 9.0]]))
    packnet.prune(1 / 3, rule=PruneRule(lambda weight: (weight - 1).abs(), granularity="filter"))
    assert filters_of(packnet.owners["weight"]) == [1, 0, 1]


def test_later_tasks_leave_filters_of_earlier_ones_alone():
    torch.manual_seed(0)
    packnet = PackNet(TinyNet())
    pack(packnet, "a", 0.5, granularity="filter")
    first = {n: packnet.module.get_parameter(n).detach().clone() for n in packnet.owners}
    pack(packnet, "b", 0.5, granularity="filter")
    pack(packnet, "c", None)
    assert {n: sorted(filters_of(o)) for n, o in packnet.owners.items()} == {
        "conv.weight": [1, 1, 2, 3],
        "fc.weight": [1, 1, 1, 2, 3, 3],
    }
    for name, owner in packnet.owners.items():
        assert torch.equal(packnet.module.get_parameter(name)[owner == 1], first[name][owner == 1])
    packnet.verify()


def test_filters_first_and_single_weights_later():
    packnet = PackNet(TinyNet())
    pack(packnet, "a", 0.5, granularity="filter")
    pack(packnet, "b", 0.5)
    packnet.verify()
    assert packnet.summary().layers["conv.weight"].owned == {"a": 18, "b": 9}


def test_single_weights_first_and_filters_later_is_refused_before_anything_changes():
    packnet = PackNet(TinyNet())
    pack(packnet, "a", 0.5)
    said = (
        r"filter \d+ of conv\.weight belongs to several tasks, as earlier ones were pruned weight by weight.*'weight'"
    )
    with pytest.raises(ValueError, match=said):
        check_rule(FILTERS, packnet.state, packnet.inventory())
    check_rule(PruneRule(), packnet.state, packnet.inventory())
    packnet.begin_task("b")
    train(packnet)
    with pytest.raises(ValueError, match=said):
        check_rule(FILTERS, packnet.state, packnet.inventory())
    before = snapshot(packnet)
    with pytest.raises(ValueError, match=said):
        packnet.prune(0.5, granularity="filter")
    assert equal(snapshot(packnet), before)
    packnet.prune(0.5)


def test_whole_filters_can_be_released_whatever_comes_before_them_in_the_layer():
    packnet = PackNet(TinyNet())
    check_rule(FILTERS, packnet.state, packnet.inventory())
    pack(packnet, "a", 0.5, granularity="filter")
    check_rule(FILTERS, packnet.state, packnet.inventory())
    packnet.begin_task("b")
    check_rule(FILTERS, packnet.state, packnet.inventory())


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_a_diverged_filter_is_refused_by_name(value, scope):
    packnet = begun(TinyNet())
    with torch.no_grad():
        packnet.module.fc.weight[2, 3] = value
    before = snapshot(packnet)
    with pytest.raises(ValueError, match=r"fc\.weight holds NaN or infinity"):
        packnet.prune(0.5, scope=scope, granularity="filter")
    assert equal(snapshot(packnet), before)


def test_what_was_agreed_on_is_what_is_released():
    packnet, asked = begun(TinyNet()), []

    def agree(choices):
        for choice in choices:
            asked.append(choice.shape)
            choice.logical_not_()

    packnet.prune(0.25, granularity="filter", agree=agree)
    assert asked == [(4, 1, 3, 3), (6, 16)]
    assert filters_of(packnet.owners["conv.weight"]).count(0) == 3


def test_a_layer_without_weights_has_no_filters():
    assert count_units("w", weight_of(nn.Linear(0, 2)), torch.zeros(2, 0, dtype=torch.uint8), 1, "filter") == 0
    assert count_units("w", weight_of(nn.Linear(3, 2)), torch.ones(2, 3, dtype=torch.uint8), 1, "weight") == 6


class GraphLayer(nn.Module):
    """Multiplies from the left, so its outputs are columns; a square does not tell."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.in_features, self.out_features = inputs, outputs
        self.weight = nn.Parameter(torch.randn(inputs, outputs))


class QuantLinear(GraphLayer):
    """Has its outputs in rows, as I-BERT's."""


class Experts(nn.Module):
    """Each row is a whole kernel, and there are as many as outputs."""

    def __init__(self):
        super().__init__()
        self.in_channels, self.out_channels, self.groups = 3, 4, 1
        self.weight = nn.Parameter(torch.randn(4, 4 * 3))


@pytest.mark.parametrize("layer", [GraphLayer(4, 4), GraphLayer(4, 6), Experts()])
def test_a_shape_that_only_looks_like_rows_of_outputs_is_refused(layer):
    with pytest.raises(ValueError, match=r"the filters of weight are not known: nothing says which dimension of"):
        count_units("weight", weight_of(layer), torch.ones(layer.weight.shape, dtype=torch.uint8), 1, "filter")


@pytest.mark.parametrize("layer", [QuantLinear(4, 4), QuantLinear(6, 6)])
def test_a_square_of_a_class_that_is_called_linear_has_rows_of_outputs(layer):
    everything = torch.ones(layer.weight.shape, dtype=torch.uint8)
    assert count_units("weight", weight_of(layer), everything, 1, "filter") == layer.out_features
