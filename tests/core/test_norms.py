import copy
import pickle

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations

from packnet_pl.core.module_modes import EvalMode, in_eval_mode, is_bias, is_norm, layers_with_statistics
from tests.support.tiny import TinyNet, count_hooks, images


class ChannelNorm2d(nn.Module):
    """A norm of somebody else's."""


class Whitening(nn.Module):
    """Keeps statistics by torch's name for them, and is no norm of torch's."""

    def __init__(self, keeps=True):
        super().__init__()
        self.register_buffer("running_cov", torch.eye(2) if keeps else None)


@pytest.mark.parametrize(
    "layer",
    [
        nn.BatchNorm1d(2),
        nn.BatchNorm2d(2, affine=False),
        nn.BatchNorm3d(2, track_running_stats=False),
        nn.SyncBatchNorm(2),
        nn.LazyBatchNorm1d(),
        nn.InstanceNorm1d(2),
        nn.InstanceNorm2d(2, affine=True),
        nn.InstanceNorm3d(2),
        nn.GroupNorm(1, 2),
        nn.LayerNorm(2),
        nn.RMSNorm(2),
        nn.LocalResponseNorm(2),
        ChannelNorm2d(),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_norms_are_known_by_their_class_or_its_name(layer):
    assert is_norm(layer)


@pytest.mark.parametrize(
    "layer",
    [nn.Linear(2, 2), nn.Conv2d(1, 1, 1), nn.Embedding(2, 2), nn.PReLU(), nn.Sequential(nn.LayerNorm(2)), Whitening()],
    ids=lambda layer: type(layer).__name__,
)
def test_other_layers_are_no_norms_and_neither_is_what_contains_one(layer):
    assert not is_norm(layer)


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("bias", True),
        ("in_proj_bias", True),
        ("bias_hh_l0", True),
        ("bias_k", True),
        ("relative_position_bias_table", True),
        ("weight", False),
        ("in_proj_weight", False),
        ("unbiased", False),
        ("biased", False),
        ("scale", False),
    ],
)
def test_biases_are_known_by_the_word_in_their_name(key, expected):
    assert is_bias(key) is expected


def test_layers_that_update_statistics_are_found_and_others_are_not():
    spectral = parametrizations.spectral_norm(nn.Linear(2, 2))
    found = [
        nn.BatchNorm1d(2),
        nn.BatchNorm2d(2),
        nn.BatchNorm3d(2, affine=False),
        nn.SyncBatchNorm(2),
        nn.InstanceNorm1d(2, track_running_stats=True),
        nn.InstanceNorm2d(2, track_running_stats=True),
        nn.InstanceNorm3d(2, track_running_stats=True),
        Whitening(),
        spectral,
    ]
    others = [
        nn.BatchNorm2d(2, track_running_stats=False),
        nn.InstanceNorm2d(2),
        nn.LayerNorm(2),
        nn.GroupNorm(1, 2),
        nn.Linear(2, 2),
        Whitening(keeps=False),
    ]
    # Spectral norm is a layer inside the layer that it normalises.
    expected = [*found[:-1], spectral.parametrizations.weight[0]]
    assert layers_with_statistics(nn.Sequential(*found, *others)) == expected


def test_kept_norms_go_back_to_eval_mode_before_each_forward_pass():
    net = TinyNet()
    before = net.bn.running_mean.clone()
    eval_mode = EvalMode()
    eval_mode.keep([net.bn])
    assert eval_mode.layers == [net.bn]
    assert not net.bn.training
    net.train()
    net(images())
    assert not net.bn.training
    assert net.drop.training
    assert torch.equal(net.bn.running_mean, before)
    assert net.bn.num_batches_tracked.item() == 0

    eval_mode.end()
    assert eval_mode.layers == []
    assert count_hooks(net) == 0
    net.train()
    net(images())
    assert not torch.equal(net.bn.running_mean, before)


def test_the_vectors_of_spectral_norm_move_in_training_mode_unless_it_is_kept_in_eval_mode():
    net = parametrizations.spectral_norm(nn.Linear(3, 3))
    norm = net.parametrizations.weight[0]

    def moves():
        start = torch.tensor([1.0, 0.0, 0.0])
        norm._u = start.clone()
        net.train()
        net(torch.randn(2, 3))
        return not torch.equal(norm._u, start)

    assert moves()
    eval_mode = EvalMode()
    eval_mode.keep(layers_with_statistics(net))
    assert not moves()
    eval_mode.keep([])
    assert moves()


@pytest.mark.parametrize(
    "twin_of", [copy.deepcopy, lambda net: pickle.loads(pickle.dumps(net))], ids=["copy", "pickle"]
)
def test_a_module_whose_norms_are_kept_can_be_copied_and_pickled_and_so_can_what_keeps_them(twin_of):
    net = TinyNet()
    eval_mode = EvalMode()
    eval_mode.keep([net.bn])
    twin, mode_of_twin = twin_of((net, eval_mode))
    assert mode_of_twin.layers == [twin.bn]
    twin.train()
    twin(images())
    assert not twin.bn.training


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_a_scripted_layer_which_takes_no_hooks_is_put_in_eval_mode_once():
    layer = torch.jit.script(nn.BatchNorm1d(2)).train()
    assert layers_with_statistics(nn.Sequential(layer)) == [layer]
    EvalMode().keep([layer])
    assert not layer.training


@pytest.mark.parametrize("fails", [False, True])
def test_eval_mode_is_given_back_to_each_layer_as_it_was(fails):
    training, evaluating = nn.BatchNorm1d(2).train(), nn.BatchNorm1d(2).eval()
    try:
        with in_eval_mode([training, evaluating, training]):
            assert not training.training
            assert not evaluating.training
            if fails:
                raise KeyError
    except KeyError:
        pass
    assert training.training
    assert not evaluating.training


def test_eval_mode_is_of_the_layers_given_alone():
    block = nn.Sequential(nn.Dropout()).train()
    with in_eval_mode([block]):
        assert not block.training
        assert block[0].training
