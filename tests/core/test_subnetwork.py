"""A finished task's subnetwork is shown bit for bit, and given back whatever happens inside."""

import contextlib
import copy

import pytest
import torch
from torch import nn

import packnet_pl.core.inventory as inventory_module
import packnet_pl.core.subnetwork as view_module
from packnet_pl.core import PackNet, loops
from tests.support.packnet_states import (
    OWN,
    WITHOUT_WARNINGS,
    fresh,
    frozen_parameters,
    wanted,
    with_finished_task,
    with_open_task,
)
from tests.support.tiny import (
    TinyNet,
    equal,
    images,
    pack,
    same_bits,
    snapshot,
    tensors,
    train,
)


def test_an_error_inside_subnetwork_passes_through_and_gives_the_weights_back_bit_for_bit():
    packnet = with_open_task()
    with torch.no_grad():
        packnet.module.fc.weight[packnet.owners["fc.weight"] == 2] = -0.0
    before = snapshot(packnet)

    def fail_inside():
        with packnet.subnetwork("cubs"):
            assert not equal(tensors(packnet.module), before["tensors"])
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fail_inside()
    assert equal(snapshot(packnet), before)
    with packnet.subnetwork("cubs"):
        assert not packnet.module.bn.training


@pytest.mark.parametrize("keeping", [{}, OWN], ids=["shared", "per task"])
def test_an_interrupt_inside_subnetwork_gives_everything_back(keeping):
    packnet = with_finished_task(**keeping)
    packnet.begin_task("cars")
    train(packnet)
    before = snapshot(packnet)

    def interrupted():
        with packnet.subnetwork("cubs"):
            assert not equal(tensors(packnet.module), before["tensors"])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert equal(snapshot(packnet), before)
    train(packnet)
    packnet.finish_task()
    packnet.verify()


@pytest.mark.parametrize("keeping", [{}, OWN], ids=["shared", "per task"])
@pytest.mark.parametrize("at", [1, 2, 5])
def test_an_interrupt_while_values_are_given_back_still_gives_everything_back(monkeypatch, at, keeping):
    packnet = with_finished_task(**keeping)
    packnet.begin_task("cars")
    train(packnet)
    before, put_back, calls = snapshot(packnet), view_module.restore_slot_, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == at:
            raise KeyboardInterrupt
        put_back(*args)

    monkeypatch.setattr(view_module, "restore_slot_", interrupted)

    def look():
        with packnet.subnetwork("cubs"):
            assert not equal(tensors(packnet.module), before["tensors"])

    with pytest.raises(KeyboardInterrupt):
        look()
    assert len(calls) > at
    assert equal(snapshot(packnet), before)
    with packnet.subnetwork("cubs"):
        pass
    train(packnet)
    packnet.finish_task()
    packnet.verify()


def test_a_layer_that_was_added_inside_subnetwork_costs_the_other_tasks_nothing():
    packnet = with_open_task()
    before = tensors(packnet.module)

    def look():
        with packnet.subnetwork("cubs"):
            packnet.module.more = nn.Linear(2, 2)

    with pytest.raises(RuntimeError, match=r"changed since PackNet was made: \['more\.weight'\]"):
        look()
    del packnet.module.more
    assert equal(tensors(packnet.module), before)
    packnet.finish_task()


@WITHOUT_WARNINGS
def test_what_was_shown_and_restored_in_inference_mode_can_be_trained_afterwards():
    packnet = with_open_task()
    packnet.module.register_buffer("cache", torch.zeros(2), persistent=False)
    packnet.resume_task()
    before = tensors(packnet.module)
    with torch.inference_mode():
        packnet.restore_()
        with packnet.subnetwork("cubs"):
            packnet.module(images())
        packnet.module.cache = torch.ones(2)
        packnet.verify()
    assert equal(tensors(packnet.module), before)
    packnet.restore_()
    train(packnet)
    packnet.prune(0.5)
    packnet.finish_task()
    packnet.verify()


@pytest.mark.parametrize("is_compiled", [False, True], ids=["plain", "compiled"])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_subnetwork_shows_own_and_earlier_weights_and_zero_elsewhere(monkeypatch, layout, is_compiled):
    monkeypatch.setattr(loops, "MANY", 0 if is_compiled else 1 << 40)
    packnet = fresh()
    packnet.module.to(memory_format=layout)
    for task in ("a", "b", "c"):
        pack(packnet, task)
    packnet.begin_task("d")
    train(packnet)
    live, before = (
        {name: packnet.module.get_parameter(name).detach().clone() for name in packnet.owners},
        snapshot(packnet),
    )
    for number, task in enumerate(["a", "b", "c"], start=1):
        with packnet.subnetwork(task):
            for name, owner in packnet.owners.items():
                seen = torch.where((owner > 0) & (owner <= number), live[name], torch.zeros(()))
                assert same_bits(packnet.module.get_parameter(name), seen), (task, name)
        assert equal(snapshot(packnet), before)


@pytest.mark.parametrize("when", ["inside", "after"])
def test_a_graph_that_was_built_before_is_not_used_with_weights_that_a_task_was_shown_with(when):
    packnet = with_open_task()
    loss = packnet.module(images()).square().sum()
    with packnet.subnetwork("cubs"):
        if when == "inside":
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                loss.backward()
    if when == "after":
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()


def test_subnetwork_uses_running_statistics_and_gives_each_norm_its_mode_back():
    packnet = with_finished_task()
    before = tensors(packnet.module)
    packnet.module.train()
    with packnet.subnetwork("cubs"):
        packnet.module(images())
        assert packnet.module.drop.training
    assert packnet.module.bn.training
    assert equal(tensors(packnet.module), before)


def test_subnetwork_does_not_touch_gradients_or_optimizer_state():
    packnet = with_open_task()
    optimizer = torch.optim.SGD(packnet.module.parameters(), lr=0.1, momentum=0.9)
    train(packnet, optimizer=optimizer)
    grads = {name: p.grad.clone() for name, p in packnet.module.named_parameters()}
    state = copy.deepcopy(optimizer.state_dict())
    with packnet.subnetwork("cubs"), torch.no_grad():
        packnet.module(images())
    assert equal({name: p.grad for name, p in packnet.module.named_parameters()}, grads)
    assert equal(optimizer.state_dict(), state)


@WITHOUT_WARNINGS
def test_subnetwork_first_restores_what_a_step_without_restore_has_moved():
    packnet = with_finished_task()
    with packnet.subnetwork("cubs"):
        expected = tensors(packnet.module)
    packnet.begin_task("cars")
    with torch.no_grad():
        for tensor in packnet.module.state_dict().values():
            tensor.add_(1)
    with packnet.subnetwork("cubs"):
        assert equal(tensors(packnet.module), expected)


@pytest.mark.parametrize("action", ["finished", "loaded"])
def test_subnetwork_hides_weights_on_the_device_where_they_are_now(monkeypatch, action):
    # A network without values is refused otherwise; here it stands for one on another device.
    monkeypatch.setattr(inventory_module, "why_not_frozen", lambda _: None)
    packnet = with_finished_task()
    if action == "loaded":
        state = packnet.state_dict()
        packnet = PackNet(TinyNet().to("meta"))
        packnet.load_state_dict(state)
    else:
        packnet.module.to("meta")
    devices = []

    @contextlib.contextmanager
    def spy(places, owners, task, *_):
        found = places()
        devices.extend((found[name].now.device.type, owner.device.type) for name, owner in owners.items())
        yield

    # A meta tensor has no values to hide; owners on another device than their weight is an error on a GPU.
    monkeypatch.setattr(view_module, "shown", spy)
    with packnet.subnetwork("cubs"):
        pass
    assert devices == [("meta", "meta")] * 2


@pytest.mark.parametrize("fails", [False, True])
def test_subnetwork_computes_with_the_gradients_that_the_task_was_trained_with(fails):
    packnet = fresh()
    before = wanted(packnet.module)
    pack(packnet, "cubs")
    packnet.requires_grad.turn_off(frozen_parameters(packnet))
    stopped = wanted(packnet.module)
    assert stopped != before
    try:
        with packnet.subnetwork("cubs"):
            assert wanted(packnet.module) == before
            if fails:
                raise KeyError
    except KeyError:
        pass
    assert wanted(packnet.module) == stopped
    packnet.requires_grad.restore()
    assert wanted(packnet.module) == before
