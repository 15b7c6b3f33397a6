"""A change from outside is named before anything is built on it."""

import pytest
import torch
from torch import nn

from packnet_pl.core import PackNet
from tests.support.packnet_states import with_finished_task, with_open_task
from tests.support.tiny import (
    equal,
    pack,
    snapshot,
    tensors,
    train,
)


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("conv.weight", "cubs"),
        ("fc.weight", "cars"),
        ("conv.bias", "cubs"),
        ("bn.weight", "cubs"),
        ("bn.running_mean", "cubs"),
        ("bn.num_batches_tracked", "cubs"),
    ],
)
def test_a_change_from_outside_is_named_before_anything_is_built_on_it(name, task):
    packnet = with_finished_task()
    pack(packnet, "cars")
    number = packnet.tasks.index(task) + 1
    tensor = packnet.module.state_dict()[name]
    with torch.no_grad():
        if name in packnet.owners:
            tensor[tuple((packnet.owners[name] == number).nonzero()[0])] += 1
        else:
            tensor.add_(1)
    before = snapshot(packnet)
    for call in (packnet.verify, packnet.state_dict, lambda: packnet.begin_task("dogs")):
        with pytest.raises(RuntimeError, match=rf"{name} is not what it was when task '{task}' was finished"):
            call()
    assert equal(snapshot(packnet), before)


def test_a_change_while_a_task_is_open_is_restored_or_where_a_task_is_resumed_only_noticed():
    packnet = with_open_task()
    before = tensors(packnet.module)
    with torch.no_grad():
        packnet.module.fc.bias.add_(1)
    changed = tensors(packnet.module)
    with pytest.raises(RuntimeError, match=r"fc\.bias is not what it was when task 'cubs' was finished"):
        packnet.resume_task()
    assert equal(tensors(packnet.module), changed)
    packnet.verify()
    assert equal(tensors(packnet.module), before)
    packnet.resume_task()


def test_a_changed_sign_of_zero_is_a_change():
    packnet = PackNet(nn.Linear(2, 1))
    nn.init.zeros_(packnet.module.weight)
    packnet.begin_task("a")
    packnet.finish_task()
    packnet.verify()
    with torch.no_grad():
        packnet.module.weight.neg_()
    with pytest.raises(RuntimeError, match="weight is not what it was when task 'a'"):
        packnet.verify()


def test_verify_lets_free_weights_and_the_open_task_move():
    packnet = with_finished_task()
    packnet.verify()
    with torch.no_grad():
        packnet.module.fc.weight[packnet.owners["fc.weight"] == 0] = 7
    packnet.verify()
    packnet.begin_task("cars")
    train(packnet)
    packnet.verify()


def test_free_weights_that_were_changed_do_not_show_in_a_subnetwork():
    packnet = with_finished_task()
    with packnet.subnetwork("cubs"):
        expected = tensors(packnet.module)
    with torch.no_grad():
        packnet.module.fc.weight[packnet.owners["fc.weight"] == 0] = 7
    with packnet.subnetwork("cubs"):
        assert equal(tensors(packnet.module), expected)


def test_each_task_is_marked_by_what_it_has_and_no_earlier_one():
    packnet = with_finished_task()
    pack(packnet, "cars")
    marks = packnet.state_dict()["fingerprints"]
    assert set(marks["cubs"]) == set(packnet.module.state_dict())
    assert set(marks["cars"]) == set(packnet.owners)
