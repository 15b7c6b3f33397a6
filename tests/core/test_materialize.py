"""What a task computes with, written into a copy of the module."""

from copy import deepcopy

import pytest
import torch
from core_toys import same_bits
from torch import nn

from packnet_pl.core import PackNet


@pytest.fixture
def packnet():
    module = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Linear(8, 4))
    packnet = PackNet(module, norm="per_task")
    for number, task in enumerate(("a", "b", "c")):
        packnet.begin_task(task)
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.add_(number + 1)
        packnet.restore_()
        packnet.prune(0.5)
        packnet.finish_task()
    return packnet


def shown(packnet, task):
    with packnet.subnetwork(task):
        return {name: value.clone() for name, value in packnet.module.state_dict().items()}


@pytest.mark.parametrize("knows", [False, True])
def test_a_copy_gets_bit_for_bit_what_the_subnetwork_is(packnet, knows):
    before = {name: value.clone() for name, value in packnet.module.state_dict().items()}
    copy, last = deepcopy(packnet.module), None
    for task in ("a", "b", "c", "b", "a", "c", "a", "a"):
        packnet.copy_subnetwork_(task, copy, free_is_zero=knows, shown=last if knows else None)
        last = task
        for name, value in shown(packnet, task).items():
            assert same_bits(copy.state_dict()[name], value), (task, name)
    assert all(same_bits(value, before[name]) for name, value in packnet.module.state_dict().items())


def test_with_a_task_in_training_a_copy_of_the_last_finished_one_has_none_of_its_weights(packnet):
    expected = shown(packnet, "c")
    packnet.begin_task("d")
    with torch.no_grad():
        for parameter in packnet.module.parameters():
            parameter.add_(1)
    copy = deepcopy(packnet.module)
    packnet.copy_subnetwork_("c", copy, free_is_zero=True)
    assert all(same_bits(value, expected[name]) for name, value in copy.state_dict().items())


def test_requires_grad_is_copied_too(packnet):
    copy = deepcopy(packnet.module)
    packnet.module[0].weight.requires_grad_(False)
    packnet.copy_subnetwork_("a", copy)
    assert [p.requires_grad for p in copy.parameters()] == [p.requires_grad for p in packnet.module.parameters()]


def test_free_weights_that_are_not_zero_are_noticed(packnet):
    assert packnet.free_is_zero()
    with torch.no_grad():
        packnet.module[0].weight[packnet.owners["0.weight"] == 0] = -1
    assert not packnet.free_is_zero()


def test_unknown_and_open_tasks_and_a_copy_inside_a_view_are_refused(packnet):
    copy = deepcopy(packnet.module)
    with pytest.raises(ValueError, match="task 'x' is unknown"):
        packnet.copy_subnetwork_("x", copy)
    packnet.begin_task("d")
    with pytest.raises(ValueError, match="task 'd' is still open"):
        packnet.copy_subnetwork_("d", copy)
    packnet.abort_task()
    with packnet.subnetwork("a"), pytest.raises(RuntimeError, match=r"copy_subnetwork_ inside subnetwork\('a'\)"):
        packnet.copy_subnetwork_("a", copy)
