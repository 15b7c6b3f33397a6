"""Norms and biases of each task's own."""

import pytest
import torch

from tests.support.packnet_states import (
    OWN,
    fresh,
    with_finished_task,
)
from tests.support.tiny import (
    equal,
    pack,
    tensors,
    train,
)

NORM = [f"bn.{key}" for key in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")]


KEPT = {"norm": NORM, "bias": ["conv.bias", "fc.bias"]}


@pytest.mark.parametrize("which", [("norm",), ("bias",), ("norm", "bias")], ids="+".join)
def test_each_task_keeps_its_own_and_shows_it_again(which):
    packnet = fresh(**dict.fromkeys(which, "per_task"))
    net, finished = packnet.module, {}
    own = [name for what in which for name in KEPT[what]]
    for task in "abc":
        pack(packnet, task)
        finished[task] = tensors(net)
        for name in finished["a"]:
            if name in [*KEPT["norm"], *KEPT["bias"]]:
                same = torch.equal(finished[task][name], finished["a"][name])
                assert same == (task == "a" or name not in own), (task, name)
    packnet.begin_task("d")
    train(packnet)
    before = tensors(net)
    for number, task in enumerate("abc", start=1):
        with packnet.subnetwork(task):
            shown = tensors(net)
            assert not net.bn.training
        for name, value in shown.items():
            owner = packnet.owners.get(name, torch.ones_like(value))
            seen = (owner > 0) & (owner <= number)
            assert torch.equal(value[seen], finished[task][name][seen]), (task, name)
    assert equal(tensors(net), before)
    packnet.verify()


def test_a_task_begins_with_the_norms_and_biases_of_the_one_before():
    packnet = with_finished_task(**OWN)
    before = tensors(packnet.module)
    packnet.begin_task("cars")
    assert equal(tensors(packnet.module), before)
    train(packnet)
    assert not any(torch.equal(tensors(packnet.module)[name], before[name]) for name in [*NORM, *KEPT["bias"]])


@pytest.mark.parametrize("phase", ["train", "retrain"])
def test_abort_gives_the_norms_and_biases_of_the_last_finished_task_back(phase):
    packnet = with_finished_task(**OWN)
    pack(packnet, "cars")
    state, before = packnet.state_dict(), tensors(packnet.module)
    packnet.begin_task("dogs")
    train(packnet)
    if phase == "retrain":
        packnet.prune(0.5)
        train(packnet)
    packnet.abort_task()
    assert equal(tensors(packnet.module), before)
    assert equal(packnet.state_dict(), state)


def test_what_the_module_has_now_of_norms_and_biases_is_nobody_s_when_no_task_is_open():
    packnet = with_finished_task(**OWN)
    with packnet.subnetwork("cubs"):
        expected = tensors(packnet.module)
    with torch.no_grad():
        packnet.module.bn.weight.add_(1)
        packnet.module.fc.bias.add_(1)
    packnet.verify()
    with packnet.subnetwork("cubs"):
        assert equal(tensors(packnet.module), expected)
