"""Gradual pruning: shares that rise to the whole, and exact counts after each."""

import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from packnet_pl.core import PackNet, PruneRule, magnitude
from packnet_pl.core.gradual import first_share, last_cut, share_at
from tests.support.tiny import TinyNet, equal, train

GRADUAL = PruneRule(schedule="gradual")
ratios = st.floats(0, 1, exclude_max=True)


@given(ratios, st.integers(1, 60))
def test_shares_rise_from_the_first_to_the_whole(ratio, epochs):
    shares = [first_share(ratio), *(share_at(ratio, epoch, epochs) for epoch in range(epochs))]
    assert shares == sorted(shares)
    assert shares[last_cut(epochs) + 1 :] == [ratio] * (epochs - last_cut(epochs))
    assert epochs - last_cut(epochs) >= epochs / 3


def test_shares_are_those_of_the_paper():
    # Equation 1 with initial sparsity 0.4, final 0.8, and 4 steps.
    assert [share_at(0.8, epoch, 6) for epoch in range(6)] == pytest.approx(
        [0.4, 0.8 - 0.4 * 0.75**3, 0.8 - 0.4 * 0.125, 0.8 - 0.4 * 0.25**3, 0.8, 0.8]
    )


@settings(max_examples=25)
@given(st.lists(ratios, min_size=1, max_size=5), st.sampled_from(["layer", "global"]), st.integers(0, 99))
def test_counts_are_shares_of_what_the_task_had_first(shares, scope, seed):
    torch.manual_seed(seed)
    packnet = PackNet(nn.Sequential(nn.Linear(3, 5), nn.Linear(5, 2)))
    packnet.begin_task("a")
    packnet.prune(0.7)
    packnet.finish_task()
    packnet.begin_task("b")
    had = {name: int((owner == 2).sum()) for name, owner in packnet.owners.items()}
    rule = PruneRule(scope=scope, schedule="gradual")
    released = {name: set() for name in had}
    for share in sorted(shares):
        weights = {n: packnet.module.get_parameter(n).detach().abs().flatten().tolist() for n in had}
        packnet.prune(share, rule=rule)
        free = {name: int((owner == 0).sum()) for name, owner in packnet.owners.items()}
        if scope == "layer":
            assert free == {name: round(share * count) for name, count in had.items()}
        else:
            assert sum(free.values()) == round(share * sum(had.values()))
        now = {n: set((packnet.owners[n] == 0).flatten().nonzero().flatten().tolist()) for n in had}
        for name in had:
            assert now[name] >= released[name]
            own = [i for i, owner in enumerate(packnet.owners[name].flatten().tolist()) if owner == 2]
            if scope == "layer" and own and now[name] - released[name]:
                assert max(weights[name][i] for i in now[name] - released[name]) <= min(weights[name][i] for i in own)
            assert not packnet.module.get_parameter(name).detach().flatten()[sorted(now[name])].any()
        released = now


def test_a_task_that_is_pruned_on_without_training_ends_as_one_that_is_pruned_at_once():
    torch.manual_seed(0)
    packnet = PackNet(TinyNet())
    packnet.begin_task("a")
    train(packnet)
    at_once = copy.deepcopy(packnet)
    at_once.prune(0.75)
    for share in (0.2, 0.5, 0.75):
        packnet.prune(share, rule=GRADUAL)
    assert equal(packnet.owners, at_once.owners)


def test_pruned_weights_stay_zero_though_momentum_moves_them():
    torch.manual_seed(0)
    packnet = PackNet(TinyNet())
    packnet.begin_task("a")
    train(packnet)
    packnet.prune(0.3, rule=GRADUAL)
    optimizer = torch.optim.Adam(packnet.module.parameters(), lr=0.05)
    for share in (0.5, 0.8):
        train(packnet, optimizer=optimizer)
        packnet.prune(share, rule=GRADUAL)
        train(packnet, optimizer=optimizer)
        for name, owner in packnet.owners.items():
            assert not packnet.module.get_parameter(name).detach()[owner == 0].any()
    packnet.finish_task()
    packnet.verify()


def test_whole_filters_are_counted_too():
    torch.manual_seed(0)
    packnet = PackNet(nn.Sequential(nn.Conv2d(1, 9, 3)))
    packnet.begin_task("a")
    for share, free in ((0.3, 3), (0.6, 5), (0.9, 8)):
        packnet.prune(share, rule=PruneRule(magnitude, granularity="filter", schedule="gradual"))
        assert int((packnet.owners["0.weight"] == 0).flatten(1).all(1).sum()) == free


def test_a_smaller_share_and_a_rule_that_does_not_go_on_are_refused():
    torch.manual_seed(0)
    packnet = PackNet(TinyNet())
    packnet.begin_task("a")
    packnet.prune(0.5, rule=GRADUAL)
    with pytest.raises(ValueError, match=r"prune ratio 0\.2 was given, but 18 of 36 weights of conv\.weight were"):
        packnet.prune(0.2, rule=GRADUAL)
    with pytest.raises(RuntimeError, match="it was pruned already"):
        packnet.prune(0.75)
    with pytest.raises(ValueError, match="prune schedule is 'slow'; allowed are 'oneshot'"):
        PruneRule(schedule="slow")
    packnet.prune(0.5, rule=GRADUAL)
    assert packnet.summary().layers["conv.weight"].free == 18
