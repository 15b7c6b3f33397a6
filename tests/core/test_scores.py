"""The scores beside magnitude: against slow plain sums, what they are refused for, and what a state has of them."""

import copy
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from packnet_pl.core import GradientScore, PackNet, PruneRule, magnitude, movement, random, taylor
from packnet_pl.core.accumulators import Accumulators
from packnet_pl.core.slots import slots_of
from packnet_pl.core.state_dump import digest
from tests.support.tiny import TinyNet, equal, images

SCORES = {"movement": movement, "taylor": taylor}
STEPS = st.lists(
    st.tuples(st.floats(-2, 2, width=32), st.floats(-2, 2, width=32)),
    min_size=1,
    max_size=6,
)


def gradient_steps(packnet, score, *, steps=3, seed=0):
    """Trains, and returns what plain loops over all numbers make of the same steps: name -> list."""
    torch.manual_seed(seed)
    optimizer = torch.optim.SGD(packnet.module.parameters(), lr=0.05, momentum=0.9)
    seen = []
    for _ in range(steps):
        optimizer.zero_grad()
        packnet.module(images()).square().mean().backward()
        packnet.accumulate_(score)
        now = {name: packnet.module.get_parameter(name) for name in packnet.owners}
        seen.append({n: (w.detach().flatten().tolist(), w.grad.flatten().tolist()) for n, w in now.items()})
        packnet.mask_gradients_()
        optimizer.step()
        packnet.restore_()
    return {name: [plain(score, [s[name] for s in seen], i) for i in range(w.numel())] for name, w in now.items()}


def plain(score, steps, index):
    products = [weights[index] * gradients[index] for weights, gradients in steps]
    return -math.fsum(products) if score is movement else math.sqrt(math.fsum(p * p for p in products))


def opened(module=None):
    torch.manual_seed(1)
    packnet = PackNet(module or TinyNet())
    packnet.begin_task("a")
    return packnet


@pytest.mark.parametrize("name", SCORES)
@given(STEPS)
def test_a_sum_is_that_of_a_plain_loop(name, steps):
    layer = nn.Linear(1, 1, bias=False)
    sums = Accumulators(name)
    for weight, gradient in steps:
        with torch.no_grad():
            layer.weight.fill_(weight)
        layer.weight.grad = torch.full_like(layer.weight, gradient)
        sums = sums.after_step(SCORES[name], dict(slots_of(layer)))
    products = [weight * gradient for weight, gradient in steps]
    wanted = -math.fsum(products) if name == "movement" else math.sqrt(math.fsum(p * p for p in products))
    assert sums.of("weight", layer.weight).item() == pytest.approx(wanted, rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("name", SCORES)
def test_the_lowest_sums_are_released(name, scope):
    packnet = opened()
    by_loops = gradient_steps(packnet, SCORES[name])
    sums = packnet.state.accumulators.sums
    for weight, values in by_loops.items():
        assert sums[weight].flatten().tolist() == pytest.approx(values, rel=1e-4, abs=1e-9)
    packnet.prune(0.6, rule=PruneRule(score=SCORES[name], scope=scope))
    groups = [list(sums)] if scope == "global" else [[weight] for weight in sums]
    for group in groups:
        values = [value for weight in group for value in sums[weight].flatten().tolist()]
        free = [index for weight in group for index in (packnet.owners[weight] == 0).flatten().tolist()]
        order = sorted(range(len(values)), key=lambda index: (values[index], index))
        assert [i for i, is_free in enumerate(free) if is_free] == sorted(order[: round(0.6 * len(values))])
    assert packnet.state.accumulators is None


@pytest.mark.parametrize("name", SCORES)
def test_filters_are_ranked_by_what_their_weights_come_to(name):
    packnet = opened(nn.Sequential(nn.Conv2d(1, 6, 3), nn.Flatten(), nn.Linear(96, 4)))
    gradient_steps(packnet, SCORES[name])
    sums = packnet.state.accumulators.sums["0.weight"].flatten(1).double()
    worth = sums.sum(1) if name == "movement" else sums.square().sum(1)
    packnet.prune(0.5, rule=PruneRule(score=SCORES[name], granularity="filter"))
    released = (packnet.owners["0.weight"] == 0).flatten(1)
    assert torch.equal(released.all(1), released.any(1))
    assert sorted(released.all(1).nonzero().flatten().tolist()) == sorted(worth.argsort()[:3].tolist())


def test_random_numbers_follow_from_the_weight_and_differ_between_layers():
    one, other = torch.randn(40, 30), torch.randn(40, 30)
    assert torch.equal(random(one), random(one.clone()))
    assert not torch.equal(random(one), random(other))
    drawn = torch.cat([random(one), random(other)])
    assert 0 <= drawn.min() < 0.01
    assert 0.99 < drawn.max() < 1
    assert drawn.mean() == pytest.approx(0.5, abs=0.03)


def test_random_numbers_leave_the_generator_of_training_alone():
    before = torch.get_rng_state()
    random(torch.randn(0))
    random(torch.ones(3))
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("rule", [PruneRule(score=random), PruneRule(score=random, scope="global")])
def test_random_releases_exact_counts_whatever_the_weights(rule):
    packnet = opened()
    packnet.prune(0.3, rule=rule)
    total = packnet.summary().total
    layers = packnet.summary().layers.values()
    wanted = round(0.3 * total.weights) if rule.scope == "global" else sum(round(0.3 * s.weights) for s in layers)
    assert total.free == wanted


def test_a_step_that_a_scaler_leaves_out_adds_nothing():
    packnet = opened()
    gradient_steps(packnet, taylor)
    before = copy.deepcopy(packnet.state.accumulators.sums)
    packnet.module(images()).square().mean().backward()
    packnet.module.fc.weight.grad[0, 0] = math.inf
    packnet.accumulate_(taylor)
    assert equal(dict(packnet.state.accumulators.sums), dict(before))


def test_a_state_has_the_sums_and_goes_on_with_them():
    packnet = opened()
    gradient_steps(packnet, movement)
    state = copy.deepcopy(packnet.state_dict())
    assert state["accumulators"]["score"] == "movement"
    assert state["format"] == 4
    other = PackNet(copy.deepcopy(packnet.module))
    other.load_state_dict(state)
    assert digest(other.state) == digest(packnet.state)
    for one in (packnet, other):
        gradient_steps(one, movement, seed=3)
        one.prune(0.5, rule=PruneRule(score=movement))
    assert equal(other.owners, packnet.owners)
    assert "accumulators" not in packnet.state_dict()


def test_states_of_the_default_say_nothing_of_sums():
    packnet = opened()
    assert "accumulators" not in packnet.state_dict()
    packnet.prune(0.5)
    assert "accumulators" not in packnet.state_dict()


@pytest.mark.parametrize(
    ("break_", "said"),
    [
        (lambda s: s["accumulators"]["sums"].update({"nothing": torch.zeros(1)}), "the sum of 'nothing' is no float"),
        (
            lambda s: s["accumulators"]["sums"].update({"fc.weight": torch.zeros(1)}),
            "'fc.weight' is no float",
        ),
        (lambda s: s["accumulators"].pop("sums"), "malformed: 'sums'"),
        (lambda s: s["accumulators"].update(score=3), "3 is no score"),
    ],
)
def test_states_with_other_sums_are_refused(break_, said):
    packnet = opened()
    gradient_steps(packnet, taylor)
    state = copy.deepcopy(packnet.state_dict())
    break_(state)
    with pytest.raises(ValueError, match=said):
        PackNet(copy.deepcopy(packnet.module)).load_state_dict(state)


def test_a_score_of_gradients_without_any_is_refused():
    packnet = opened()
    before = packnet.state
    with pytest.raises(ValueError, match="prune score taylor adds up gradients of each step, and none was added up"):
        packnet.prune(0.5, rule=PruneRule(score=taylor))
    gradient_steps(packnet, movement)
    with pytest.raises(ValueError, match="those of movement were added up"):
        packnet.prune(0.5, rule=PruneRule(score=taylor))
    with pytest.raises(ValueError, match="taylor was given, but movement was added up"):
        packnet.accumulate_(taylor)
    assert packnet.phase == "train"
    assert equal(packnet.owners, dict(before.owners))


def test_a_sum_that_overflows_is_refused_in_one_line():
    @GradientScore
    def soaring(total, weight, gradient):
        return total + torch.inf

    packnet = opened()
    gradient_steps_of_own(packnet, soaring)
    with pytest.raises(ValueError, match=r"the prune score of conv\.weight holds NaN or infinity"):
        packnet.prune(0.5, rule=PruneRule(score=soaring))


@pytest.mark.parametrize(
    ("made", "said"),
    [(lambda t, w, g: t.sum(), r"made torch.float32 \(\) of"), (lambda *_: None, "a NoneType of")],
)
def test_a_score_of_another_shape_is_refused(made, said):
    packnet = opened()
    with pytest.raises(ValueError, match=said):
        gradient_steps_of_own(packnet, GradientScore(made))


def gradient_steps_of_own(packnet, score):
    packnet.module(images()).square().mean().backward()
    packnet.accumulate_(score)


def test_other_arguments_of_a_score_are_refused():
    with pytest.raises(ValueError, match="GradientScore was given 'taylor'; it takes a function"):
        GradientScore("taylor")
    with pytest.raises(ValueError, match="of_filter is 'max'; allowed are 'norm' and 'sum'"):
        GradientScore(magnitude, of_filter="max")


def test_rows_of_a_table_that_were_not_looked_up_go_first():
    torch.manual_seed(0)
    table = nn.EmbeddingBag(8, 3, sparse=True)
    packnet = PackNet(table, prunable="all")
    packnet.begin_task("a")
    table(torch.tensor([[1, 2, 5]])).square().sum().backward()
    packnet.accumulate_(taylor)
    packnet.mask_gradients_()
    packnet.prune(0.5, rule=PruneRule(score=taylor))
    assert not (packnet.owners["weight"][[1, 2, 5]] == 0).any()


def test_a_row_under_weight_norm_keeps_the_entry_that_is_worth_most():
    torch.manual_seed(0)
    layer = nn.utils.parametrizations.weight_norm(nn.Linear(4, 3))
    packnet = PackNet(layer)
    packnet.begin_task("a")
    layer(torch.randn(5, 4)).square().sum().backward()
    packnet.accumulate_(movement)
    sums = packnet.state.accumulators.sums["parametrizations.weight.original1"]
    packnet.prune(0.75, rule=PruneRule(score=movement))
    kept = packnet.owners["parametrizations.weight.original1"] != 0
    assert kept.sum(1).tolist() == [1, 1, 1]
    assert torch.equal(kept.float().argmax(1), sums.argmax(1))
    assert layer(torch.randn(2, 4)).isfinite().all()
