"""Copies, conversions, and layers or weights that others replace."""

import copy

import pytest
import torch
from torch import nn

from tests.support.packnet_states import WITHOUT_WARNINGS, fresh, with_finished_task, with_open_task, with_pruned_task
from tests.support.tiny import (
    count_hooks,
    equal,
    pack,
    snapshot,
    tensors,
    train,
)


@pytest.mark.parametrize("make", [fresh, with_finished_task, with_open_task, with_pruned_task])
def test_a_deepcopy_goes_on_by_itself(make):
    packnet = make()
    before = snapshot(packnet)
    twin = copy.deepcopy(packnet)
    assert equal(snapshot(twin), before)
    if twin.open_task is None:
        twin.begin_task("twin")
    train(twin)
    if twin.phase == "train":
        twin.prune(0.5)
    twin.finish_task()
    assert count_hooks(twin.module) == 0
    twin.verify()
    assert equal(snapshot(packnet), before)
    if packnet.open_task is not None:
        train(packnet)
        packnet.finish_task()
        assert count_hooks(packnet.module) == 0
        packnet.verify()


def test_a_deepcopy_made_with_its_module_stays_with_that_module():
    packnet = with_open_task()
    twin, net = copy.deepcopy((packnet, packnet.module))
    assert twin.module is net
    assert net is not packnet.module


@pytest.mark.parametrize("make", [with_finished_task, with_open_task, with_pruned_task])
def test_weights_that_are_replaced_by_equal_ones_are_found_by_name(make):
    packnet = make()
    net = packnet.module
    with packnet.subnetwork("cubs"):
        expected = tensors(net)
    old = net.fc.weight
    net.load_state_dict({name: tensor.clone() for name, tensor in net.state_dict().items()}, assign=True)
    assert net.fc.weight is not old
    with packnet.subnetwork("cubs"):
        assert equal(tensors(net), expected)
    packnet.verify()
    if packnet.open_task is None:
        packnet.begin_task("cars")
    else:
        packnet.resume_task()
    train(packnet)
    if packnet.phase == "train":
        packnet.prune(0.5)
        train(packnet)
    packnet.finish_task()
    packnet.verify()
    with packnet.subnetwork("cubs"):
        assert equal(tensors(net), expected)


@WITHOUT_WARNINGS
def test_weights_that_are_replaced_while_a_task_is_open_are_held_at_prune_and_finish():
    packnet = with_open_task()
    net = packnet.module
    with packnet.subnetwork("cubs"):
        expected = tensors(net)
    for step in (lambda: packnet.prune(0.5), packnet.finish_task):
        net.load_state_dict({name: tensor + 1 for name, tensor in net.state_dict().items()}, assign=True)
        step()
        with packnet.subnetwork("cubs"):
            assert equal(tensors(net), expected)


def test_another_float_type_is_noticed_and_the_old_one_is_welcome_back():
    packnet = with_finished_task()
    packnet.module.double()
    for call in (packnet.verify, packnet.state_dict, lambda: packnet.begin_task("cars")):
        with pytest.raises(
            RuntimeError,
            match=r"conv\.weight is float64, and was float32 when task 'cubs'.*convert the network to float32",
        ):
            call()
    packnet.module.float()
    pack(packnet, "cars")
    assert packnet.tasks == ["cubs", "cars"]


@WITHOUT_WARNINGS
def test_a_conversion_while_a_task_is_open_does_not_destroy_finished_tasks():
    packnet = with_open_task()
    mine = packnet.owners["fc.weight"] == 1
    before = packnet.module.fc.weight.detach()[mine].clone()
    packnet.module.double()
    for call in (packnet.restore_, packnet.freezer.restore_all_, packnet.finish_task):
        with pytest.raises(RuntimeError, match=r"was torch\.float32 .* and is torch\.float64 .*convert it back, or"):
            call()
    assert torch.equal(packnet.module.fc.weight.detach()[mine], before.double())
    with pytest.raises(RuntimeError, match=r"is float64, and was float32 when task 'cubs' was finished"):
        packnet.resume_task()
    packnet.module.float()
    packnet.resume_task()
    with torch.no_grad():
        packnet.module.fc.weight.add_(1)
    packnet.restore_()
    assert torch.equal(packnet.module.fc.weight.detach()[mine], before)


def test_before_a_task_is_finished_the_open_one_goes_on_in_another_type():
    packnet = fresh()
    packnet.begin_task("cubs")
    packnet.prune(0.5)
    packnet.module.double()
    with pytest.raises(RuntimeError, match=r"go on with PackNet\.resume_task\(\)"):
        packnet.restore_()
    packnet.resume_task()
    with torch.no_grad():
        packnet.module.fc.weight.add_(1)
    packnet.restore_()
    weight = packnet.module.fc.weight.detach()
    assert weight.dtype == torch.float64
    assert not weight[packnet.owners["fc.weight"] == 0].any()


def test_a_conversion_and_back_while_a_task_is_open_changes_nothing():
    packnet = with_open_task()
    expected = tensors(packnet.module)
    packnet.module.double().float()
    packnet.restore_()
    assert equal(tensors(packnet.module), expected)
    packnet.finish_task()
    packnet.verify()


def test_moving_to_the_same_device_and_memory_format_changes_nothing():
    packnet = with_open_task()
    packnet.module.to("cpu").to(memory_format=torch.channels_last)
    train(packnet)
    packnet.prune(0.5)
    packnet.finish_task()
    packnet.verify()


def test_layers_that_appear_or_change_shape_later_are_noticed():
    packnet = with_finished_task()
    packnet.module.extra = nn.Linear(2, 2)
    with pytest.raises(RuntimeError, match=r"changed since PackNet was made: \['extra\.weight'\]"):
        packnet.begin_task("b")
    del packnet.module.extra
    packnet.module.fc = nn.Linear(16, 7)
    with pytest.raises(RuntimeError, match=r"fc\.weight has shape \(7, 16\), its owners \(6, 16\)"):
        packnet.begin_task("b")


REPLACEMENTS = {
    "another shape": (lambda: nn.Linear(16, 7), r"fc\.weight has shape \(7, 16\), its owners \(6, 16\)"),
    "another kind": (nn.Identity, r"changed since PackNet was made: \['fc\.weight'\]"),
    "parametrized": (
        lambda: nn.utils.parametrizations.weight_norm(nn.Linear(16, 6)),
        r"changed since PackNet was made: \['fc\.parametrizations\.weight\.original1', 'fc\.weight'\]",
    ),
}


@pytest.mark.parametrize("action", ["resume_task", "prune", "finish_task", "abort_task", "verify"])
@pytest.mark.parametrize("what", REPLACEMENTS)
def test_a_layer_that_another_one_replaced_while_a_task_is_open_is_named(what, action):
    packnet = with_open_task()
    make, message = REPLACEMENTS[what]
    fc, before = packnet.module.fc, snapshot(packnet)
    packnet.module.fc = make()
    arguments = (0.5,) if action == "prune" else ()
    with pytest.raises(RuntimeError, match=message):
        getattr(packnet, action)(*arguments)
    packnet.module.fc = fc
    assert equal(snapshot(packnet), before)
    packnet.finish_task()
    packnet.verify()


def test_settling_finds_layers_that_equal_ones_have_replaced():
    packnet = with_open_task()
    net, expected = packnet.module, tensors(packnet.module)
    for name in ("conv", "bn", "fc"):
        setattr(net, name, copy.deepcopy(getattr(net, name)))
    frozen = {name: packnet.owners[name] == 1 for name in packnet.owners}
    with torch.no_grad():
        for name, mask in frozen.items():
            net.get_parameter(name)[mask] += 1
        net.fc.bias.add_(1)
    packnet.freezer.restore_all_()
    assert equal(tensors(net), expected)
    # From then on they are the ones that are held.
    with torch.no_grad():
        net.bn.bias.add_(1)
    packnet.restore_()
    assert equal(tensors(net), expected)
