import math

import pytest
import torch
from core_toys import TinyNet, bits, count_hooks, images, same_bits
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from packnet_pl.core.freezing import Hold, in_eval_mode, keep_in_eval_mode, norms_with_statistics, zeroed

FLOATS = [torch.bfloat16, torch.float16, torch.float32, torch.float64]
WILD = [1.5, -0.0, 0.0, math.inf, -math.inf, math.nan, -1e-45, 3.0]

LAYOUTS = {
    "contiguous": lambda tensor: tensor.contiguous(),
    "channels_last": lambda tensor: tensor.contiguous(memory_format=torch.channels_last),
    "transposed": lambda tensor: tensor.transpose(0, 1).contiguous().transpose(0, 1),
    "strided": lambda tensor: torch.stack([tensor, tensor], dim=-1)[..., 0],
}


def weight_and_mask(shape=(4, 3, 2, 2), dtype=torch.float32):
    return nn.Parameter(torch.randn(shape).to(dtype)), torch.rand(shape) < 0.5


@pytest.mark.parametrize("dtype", FLOATS)
def test_gradients_of_held_weights_become_exactly_zero_whatever_they_were(dtype):
    weight = nn.Parameter(torch.ones(2, len(WILD), dtype=dtype))
    trainable = torch.zeros(2, len(WILD), dtype=torch.bool)
    trainable[1] = True
    weight.grad = torch.tensor([WILD, WILD], dtype=dtype)
    before = weight.grad.clone()
    Hold({"w": weight}, {"w": trainable}, {}).mask_gradients_()
    assert same_bits(weight.grad[0], torch.zeros(len(WILD), dtype=dtype))
    assert same_bits(weight.grad[1], before[1])


@given(st.lists(st.tuples(st.floats(width=32), st.booleans()), min_size=1, max_size=30))
def test_masking_keeps_the_bits_of_trainable_gradients_and_clears_all_others(pairs):
    grads, trainable = torch.tensor([grad for grad, _ in pairs]), torch.tensor([mine for _, mine in pairs])
    weight = nn.Parameter(torch.zeros(len(pairs)))
    weight.grad = grads.clone()
    Hold({"w": weight}, {"w": trainable}, {}).mask_gradients_()
    assert same_bits(weight.grad[trainable], grads[trainable])
    assert not bits(weight.grad[~trainable]).any()


@given(st.lists(st.tuples(st.floats(width=32), st.floats(width=32), st.booleans()), min_size=1, max_size=30))
def test_restoring_gives_held_weights_their_bits_and_leaves_the_others(triples):
    held, moved = torch.tensor([old for old, _, _ in triples]), torch.tensor([new for _, new, _ in triples])
    trainable = torch.tensor([mine for _, _, mine in triples])
    weight = nn.Parameter(held.clone())
    hold = Hold({"w": weight}, {"w": trainable}, {})
    with torch.no_grad():
        weight.copy_(moved)
    hold.restore_()
    assert same_bits(weight[~trainable], held[~trainable])
    assert same_bits(weight[trainable], moved[trainable])


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("grad_layout", LAYOUTS)
@pytest.mark.parametrize("weight_layout", LAYOUTS)
def test_any_memory_layout_of_weight_and_gradient_is_held_in_place(weight_layout, grad_layout, dtype):
    weight, trainable = weight_and_mask(dtype=dtype)
    weight = nn.Parameter(LAYOUTS[weight_layout](weight.detach()))
    held, strides = weight.detach().clone(), weight.stride()
    hold = Hold({"w": weight}, {"w": trainable}, {})

    grad = LAYOUTS[grad_layout](torch.randn(weight.shape).to(dtype))
    weight.grad = grad
    expected = torch.where(trainable, grad, torch.zeros((), dtype=dtype))
    hold.mask_gradients_()
    assert weight.grad is grad
    assert torch.equal(grad, expected)

    with torch.no_grad():
        weight.add_(1)
    expected = torch.where(trainable, weight, held).detach()
    hold.restore_()
    assert weight.stride() == strides
    assert same_bits(weight, expected)


def test_tensors_that_are_fixed_whole_get_no_gradient_and_their_values_back():
    bias, count = nn.Parameter(torch.tensor([-0.0, 1.0])), torch.tensor(3)
    hold = Hold({}, {}, {"bias": bias, "count": count})
    bias.grad = torch.tensor([math.nan, math.inf])
    with torch.no_grad():
        bias.add_(1)
        count.add_(1)
    hold.mask_gradients_()
    hold.restore_()
    assert same_bits(bias.grad, torch.zeros(2))
    assert same_bits(bias, torch.tensor([-0.0, 1.0]))
    assert count.item() == 3


def test_tensors_without_a_gradient_are_passed_over():
    weight, trainable = weight_and_mask()
    bias = nn.Parameter(torch.ones(1))
    Hold({"w": weight}, {"w": trainable}, {"b": bias}).mask_gradients_()
    assert weight.grad is None
    assert bias.grad is None


def test_weights_that_may_move_everywhere_are_left_alone():
    weight = nn.Parameter(torch.ones(3))
    hold = Hold({"w": weight}, {"w": torch.ones(3, dtype=torch.bool)}, {})
    weight.grad = torch.tensor([math.nan, math.inf, 1.0])
    before = weight.grad.clone()
    with torch.no_grad():
        weight.add_(1)
    hold.mask_gradients_()
    hold.restore_()
    assert same_bits(weight.grad, before)
    assert weight.tolist() == [2, 2, 2]


def test_a_clipped_norm_counts_only_what_may_move():
    weight = nn.Parameter(torch.zeros(4))
    hold = Hold({"w": weight}, {"w": torch.tensor([True, True, False, False])}, {})
    weight.grad = torch.tensor([3.0, 4.0, 100.0, math.inf])
    hold.mask_gradients_()
    assert nn.utils.clip_grad_norm_([weight], 1.0).item() == 5.0


def test_bind_holds_the_tensors_that_took_the_place_of_the_first_ones():
    weight, trainable = weight_and_mask()
    bias = nn.Parameter(torch.ones(2))
    hold = Hold({"w": weight}, {"w": trainable}, {"b": bias})
    other_weight, other_bias = nn.Parameter(torch.zeros_like(weight)), nn.Parameter(torch.zeros(2))
    hold.bind({"w": other_weight}, {"b": other_bias})
    hold.restore_()
    assert torch.equal(other_weight, torch.where(trainable, 0, weight))
    assert torch.equal(other_bias, bias)


def test_norms_with_statistics_are_found_and_others_are_not():
    found = [
        nn.BatchNorm1d(2),
        nn.BatchNorm2d(2),
        nn.BatchNorm3d(2, affine=False),
        nn.SyncBatchNorm(2),
        nn.InstanceNorm1d(2, track_running_stats=True),
        nn.InstanceNorm2d(2, track_running_stats=True),
        nn.InstanceNorm3d(2, track_running_stats=True),
    ]
    others = [nn.BatchNorm2d(2, track_running_stats=False), nn.InstanceNorm2d(2), nn.LayerNorm(2), nn.GroupNorm(1, 2)]
    assert norms_with_statistics(nn.Sequential(*found, *others)) == found


def test_kept_norms_go_back_to_eval_mode_before_each_forward_pass():
    net = TinyNet()
    before = net.bn.running_mean.clone()
    handles = keep_in_eval_mode([net.bn])
    assert not net.bn.training
    net.train()
    net(images())
    assert not net.bn.training
    assert net.drop.training
    assert torch.equal(net.bn.running_mean, before)
    assert net.bn.num_batches_tracked.item() == 0

    for handle in handles:
        handle.remove()
    assert count_hooks(net) == 0
    net.train()
    net(images())
    assert not torch.equal(net.bn.running_mean, before)


@pytest.mark.parametrize("fails", [False, True])
def test_eval_mode_is_given_back_to_each_layer_as_it_was(fails):
    training, evaluating = nn.BatchNorm1d(2).train(), nn.BatchNorm1d(2).eval()
    try:
        with in_eval_mode([training, evaluating]):
            assert not training.training
            assert not evaluating.training
            if fails:
                raise KeyError
    except KeyError:
        pass
    assert training.training
    assert not evaluating.training


@pytest.mark.parametrize("fails", [False, True])
def test_zeroed_weights_are_given_back_bit_for_bit(fails):
    weight, hidden = nn.Parameter(torch.tensor(WILD)), torch.arange(len(WILD)) % 2 == 0
    before = weight.detach().clone()
    try:
        with zeroed(lambda: {"w": weight}, {"w": hidden}):
            assert same_bits(weight[hidden], torch.zeros(int(hidden.sum())))
            assert same_bits(weight[~hidden], before[~hidden])
            if fails:
                raise KeyError
    except KeyError:
        pass
    assert same_bits(weight, before)


def test_zeroed_gives_the_values_back_to_the_tensors_that_are_there_at_the_end():
    there = {"w": nn.Parameter(torch.tensor([1.0, 2.0]))}
    with zeroed(lambda: there, {"w": torch.tensor([True, False])}):
        there["w"] = nn.Parameter(there["w"].detach().clone())
    assert there["w"].tolist() == [1, 2]


def test_autocast_sees_the_weights_as_they_are_now():
    layer, x = nn.Linear(3, 2, bias=False), torch.randn(4, 3)
    hidden = torch.ones(2, 3, dtype=torch.bool)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outside = layer(x)
        with zeroed(lambda: {"w": layer.weight}, {"w": hidden}):
            assert not layer(x).any()
        assert torch.equal(layer(x), outside)
