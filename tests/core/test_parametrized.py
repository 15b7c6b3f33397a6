"""Weights that a parametrization computes: what they are, and that no layer divides by the length of nothing."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from packnet_pl.core import PackNet, PruneRule
from packnet_pl.core.pruning import check_rule
from tests.support.tiny import bits, same_bits


class Square(nn.Module):
    def forward(self, tensor):
        return tensor.square()


class LowRank(nn.Module):
    """Two factors instead of a weight of (4, 4)."""

    def forward(self, left, right):
        return left @ right

    def right_inverse(self, weight):
        return weight[:, :1].clone(), weight[:1].clone()


def squared(layer, key="weight"):
    return parametrize.register_parametrization(layer, key, Square())


def old_weight_norm(layer):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        return nn.utils.weight_norm(layer)


WEIGHT_NORMS = [old_weight_norm, parametrizations.weight_norm]
SPECTRAL_NORMS = [nn.utils.spectral_norm, parametrizations.spectral_norm]


@pytest.mark.parametrize("make", [lambda: nn.Linear(4, 1), lambda: nn.Conv1d(1, 1, 3), lambda: nn.Linear(1, 4)])
@pytest.mark.parametrize("norm", [*SPECTRAL_NORMS, squared])
def test_the_weight_of_a_linear_layer_or_convolution_is_one_whatever_its_shape(make, norm):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        (name,) = PackNet(norm(make())).owners
    assert name in {"parametrizations.weight.original", "weight_orig"}


@pytest.mark.parametrize("norm", WEIGHT_NORMS)
def test_weight_norm_of_one_output_divides_its_direction_and_never_its_length(norm):
    packnet = PackNet(norm(nn.Linear(4, 1)))
    assert [owner.shape for owner in packnet.owners.values()] == [(1, 4)]


@pytest.mark.parametrize("norm", WEIGHT_NORMS)
def test_a_row_of_one_number_under_weight_norm_has_only_a_sign_and_is_not_divided(norm):
    packnet = PackNet(nn.Sequential(norm(nn.Linear(1, 4)), nn.Linear(4, 4)))
    assert list(packnet.owners) == ["1.weight"]
    packnet.begin_task("a")
    packnet.prune(0.9)


def test_the_lengths_of_a_recurrent_layer_s_rows_are_not_divided():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        layer = nn.utils.weight_norm(nn.LSTM(4, 4), "weight_hh_l0")
    assert set(PackNet(layer).owners) == {"weight_ih_l0", "weight_hh_l0_v"}


def test_factors_of_a_weight_are_divided_also_of_rank_one():
    layer = parametrize.register_parametrization(nn.Linear(4, 4), "weight", LowRank())
    assert list(PackNet(layer).owners) == ["parametrizations.weight.original0", "parametrizations.weight.original1"]


@pytest.mark.parametrize("norm", [parametrizations.weight_norm, parametrizations.spectral_norm, squared])
def test_a_parametrized_table_norm_or_bias_is_still_one(norm):
    net = nn.Sequential(norm(nn.Embedding(9, 4)), squared(nn.LayerNorm((4, 4))), squared(nn.Linear(4, 4), "bias"))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        packnet = PackNet(net)
    assert list(packnet.owners) == ["2.weight"]
    assert any(name.startswith("0.") for name in PackNet(net, prunable="all").owners)


def test_a_function_is_asked_with_the_module_whose_weight_it_is():
    layer = squared(nn.Linear(4, 4))
    asked = []
    PackNet(layer, prunable=lambda name, module, parameter: asked.append((name, module)))
    assert ("parametrizations.weight.original", layer) in asked


def test_the_paper_s_rule_takes_no_parametrized_weight_as_before():
    net = nn.Sequential(squared(nn.Linear(4, 4)), nn.Linear(4, 4))
    assert list(PackNet(net, prunable="paper").owners) == ["1.weight"]


# Lengths.


@pytest.mark.parametrize("norm", WEIGHT_NORMS)
@pytest.mark.parametrize("make", [lambda: nn.Linear(3, 2), lambda: nn.ConvTranspose1d(2, 3, 1)])
@pytest.mark.parametrize("scope", ["layer", "global"])
def test_pruning_leaves_the_best_of_a_row_that_weight_norm_divides_by_the_length_of(norm, make, scope):
    layer = make()
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, -2.0, 1.0], [4.0, 3.0, 5.0]]).reshape(layer.weight.shape))
    packnet = PackNet(norm(layer))
    packnet.begin_task("a")
    packnet.prune(0.5, scope=scope)
    (name,) = packnet.owners
    assert packnet.owners[name].reshape(2, 3).tolist() == [[0, 1, 0], [1, 0, 1]]
    assert torch.isfinite(layer.weight if hasattr(layer, "parametrizations") else layer.weight_v).all()


@pytest.mark.parametrize("norm", SPECTRAL_NORMS)
def test_pruning_over_all_layers_leaves_something_of_a_weight_under_spectral_norm(norm):
    small = nn.Linear(3, 3)
    with torch.no_grad():
        small.weight.mul_(1e-6)
    net = nn.Sequential(norm(small), nn.Linear(3, 8))
    packnet = PackNet(net)
    packnet.begin_task("a")
    packnet.prune(0.5, scope="global")
    left = [int((owner == 1).sum()) for owner in packnet.owners.values()]
    assert sum(left) == 33 - round(0.5 * 33)
    assert min(left) == 1
    assert torch.isfinite(net.eval()(torch.randn(2, 3))).all()


def test_what_cannot_be_released_is_said_and_nothing_is_done():
    packnet = PackNet(parametrizations.weight_norm(nn.Conv1d(4, 4, 2, groups=4)))
    packnet.begin_task("a")
    with pytest.raises(ValueError, match=r"prune ratio 0.75 would release 6 weights of .*original1, and only 4 can be"):
        packnet.prune(0.75)
    assert packnet.phase == "train"
    packnet.prune(0.5)


@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("begun", [False, True])
def test_what_cannot_be_released_is_known_before_anything_is_trained(scope, begun):
    packnet = PackNet(parametrizations.weight_norm(nn.Conv1d(4, 4, 2, groups=4)))
    if begun:
        packnet.begin_task("a")
    rule, inventory = PruneRule(scope=scope), packnet.inventory()
    check_rule(rule, packnet.state, inventory, 0.5)
    with pytest.raises(ValueError, match=r"prune ratio 0.75 would release 6 weights of .*, and only 4 can be"):
        check_rule(rule, packnet.state, inventory, 0.75)


def test_the_score_says_which_entry_of_a_row_is_left():
    layer = nn.Linear(3, 1)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[1.0, 2.0, 3.0]]))
    packnet = PackNet(parametrizations.weight_norm(layer))
    packnet.begin_task("a")
    packnet.prune(0.5, rule=PruneRule(score=lambda weight: -weight.abs()))
    assert packnet.owners["parametrizations.weight.original1"].tolist() == [[1, 0, 0]]


@pytest.mark.parametrize("norm", [*WEIGHT_NORMS, *SPECTRAL_NORMS])
@pytest.mark.parametrize("diverged", [False, True])
def test_giving_up_the_first_task_leaves_a_network_that_computes_numbers_and_can_learn(norm, diverged):
    layer = norm(nn.Linear(3, 4))
    packnet = PackNet(layer)
    packnet.begin_task("a")
    (name,) = packnet.owners
    if diverged:
        with torch.no_grad():
            layer.get_parameter(name).fill_(torch.nan)
    packnet.abort_task()
    packnet.begin_task("b")
    layer(torch.randn(5, 3)).square().sum().backward()
    assert torch.isfinite(layer.get_parameter(name).grad).all()


def test_a_small_convolution_under_weight_norm_learns_two_tasks_at_a_high_ratio():
    torch.manual_seed(0)
    net = nn.Sequential(parametrizations.weight_norm(nn.Conv1d(1, 25, 7)), nn.ReLU(), nn.Conv1d(25, 2, 3))
    packnet, probe = PackNet(net), torch.randn(4, 1, 16)
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.05, weight_decay=0.1)

    def steps():
        for _ in range(3):
            optimizer.zero_grad()
            net(torch.randn(4, 1, 16)).square().mean().backward()
            packnet.mask_gradients_()
            optimizer.step()
            packnet.restore_()

    packnet.begin_task("a")
    steps()
    packnet.prune(0.75)
    steps()
    before = net(probe).detach()
    packnet.finish_task()
    assert int((packnet.owners["0.parametrizations.weight.original1"] == 0).sum()) == round(0.75 * 175)
    packnet.begin_task("b")
    start = bits(net[0].parametrizations.weight.original1)
    steps()
    packnet.finish_task()
    assert (bits(net[0].parametrizations.weight.original1) != start).any()
    with packnet.subnetwork("a"), torch.no_grad():
        assert same_bits(net(probe), before)
