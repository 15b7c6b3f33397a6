"""While a later task is open: statistics, gradients, steps."""

import math

import pytest
import torch

from tests.support.packnet_states import (
    fresh,
    with_finished_task,
    with_open_task,
    with_pruned_task,
)
from tests.support.tiny import (
    bits,
    equal,
    images,
    same_bits,
    tensors,
)


@pytest.mark.parametrize("phase", ["train", "retrain"])
def test_running_statistics_stand_still_in_training_mode_while_a_later_task_is_open(phase):
    packnet = with_finished_task()
    packnet.begin_task("cars")
    if phase == "retrain":
        packnet.prune(0.5)
    before = tensors(packnet.module.bn)
    packnet.module.train()
    packnet.module(images() + 3)
    assert equal(tensors(packnet.module.bn), before)


def test_running_statistics_are_the_first_task_s_to_learn():
    packnet = fresh()
    packnet.begin_task("a")
    packnet.prune(0.5)
    before = packnet.module.bn.running_mean.clone()
    packnet.module.train()
    packnet.module(images() + 3)
    packnet.restore_()
    assert not torch.equal(packnet.module.bn.running_mean, before)


def test_pruned_weights_are_zero_again_when_a_task_is_resumed_behind_other_weights():
    packnet = with_pruned_task()
    before = tensors(packnet.module)
    weights = {name: packnet.module.get_parameter(name) for name in packnet.owners}
    with torch.no_grad():
        for name, weight in weights.items():
            weight[packnet.owners[name] == 0] = 3  # as an optimizer's step that no restore followed
    packnet.resume_task()
    assert equal(tensors(packnet.module), before)


def test_gradients_of_all_that_is_frozen_become_exactly_zero_even_where_they_are_infinite():
    packnet = with_finished_task()
    packnet.begin_task("cars")
    net = packnet.module
    for number, parameter in enumerate(net.parameters()):
        parameter.grad = torch.full_like(parameter, [math.nan, math.inf, -math.inf, 1.0][number % 4])
    before = {name: parameter.grad.clone() for name, parameter in net.named_parameters()}
    packnet.mask_gradients_()
    for name, parameter in net.named_parameters():
        mine = packnet.owners[name] == 2 if name in packnet.owners else torch.zeros_like(parameter, dtype=torch.bool)
        assert not bits(parameter.grad[~mine]).any(), name
        assert same_bits(parameter.grad[mine], before[name][mine]), name


def test_only_what_was_stepped_or_written_is_written_to():
    packnet = with_open_task()
    net = packnet.module

    def versions():
        return {name: parameter._version for name, parameter in net.named_parameters()}

    before, expected = versions(), tensors(net)
    packnet.restore_(iter([net.fc.weight]))
    after = versions()
    assert {name for name in before if before[name] != after[name]} == {"fc.weight"}
    with torch.no_grad():
        net.conv.bias.add_(1)
    packnet.restore_([net.fc.weight])
    assert equal(tensors(net), expected)


def test_two_optimizers_may_step_before_and_after_a_backward_pass_of_one_graph():
    packnet = with_finished_task()
    packnet.begin_task("cars")
    net, expected = packnet.module, None
    lower = torch.optim.SGD(net.conv.parameters(), lr=0.1, momentum=0.9)
    upper = torch.optim.SGD(net.fc.parameters(), lr=0.1, momentum=0.9)
    net.train()
    x = images()
    hidden = net.bn(net.conv(x)).square().mean()
    (hidden * 2).backward(retain_graph=True)
    packnet.mask_gradients_()
    upper.step()
    packnet.restore_(net.fc.parameters())
    expected = tensors(net)
    # The graph still needs the values that the convolution and the norm had.
    hidden.backward()
    packnet.mask_gradients_()
    lower.step()
    packnet.restore_(net.conv.parameters())
    assert equal(tensors(net.bn), {name[3:]: value for name, value in expected.items() if name.startswith("bn.")})
    packnet.verify()
