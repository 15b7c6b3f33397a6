import contextlib
import copy
import math
import pickle
import subprocess
import sys
import warnings

import pytest
import torch
from core_toys import (
    RunningCentre,
    TinyNet,
    bits,
    count_hooks,
    equal,
    images,
    marked,
    pack,
    picture,
    plain_choice,
    same_bits,
    tensors,
    train,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import packnet_pl.core.inventory as prunable_module
import packnet_pl.core.packnet as packnet_module
import packnet_pl.core.subnetwork as view_module
from packnet_pl.core import CapacityError, PackNet

OWN = {"norm": "per_task", "bias": "per_task"}
WITHOUT_WARNINGS = pytest.mark.filterwarnings("ignore:.*is a buffer that its layer changes")


def fresh(**keeping):
    return PackNet(TinyNet(), **keeping)


def with_finished_task(**keeping):
    packnet = fresh(**keeping)
    pack(packnet, "cubs")
    return packnet


def with_open_task():
    packnet = with_finished_task()
    packnet.begin_task("cars")
    train(packnet)
    return packnet


def with_pruned_task():
    packnet = with_open_task()
    packnet.prune(0.5)
    train(packnet)
    return packnet


def full():
    packnet = with_finished_task()
    pack(packnet, "cars", ratio=None)
    return packnet


REFUSALS = {
    # what: (packnet, call, error, message)
    "prune without begin": (with_finished_task, lambda p: p.prune(0.5), RuntimeError, r"prune: no task is open.*cubs"),
    "finish without begin": (fresh, lambda p: p.finish_task(), RuntimeError, r"finish_task: no task is open"),
    "finish twice": (with_finished_task, lambda p: p.finish_task(), RuntimeError, r"finish_task: no task is open"),
    "abort without begin": (fresh, lambda p: p.abort_task(), RuntimeError, r"abort_task: no task is open"),
    "abort after finish": (with_finished_task, lambda p: p.abort_task(), RuntimeError, r"abort_task: no task is open"),
    "mask without begin": (fresh, lambda p: p.mask_gradients_(), RuntimeError, r"mask_gradients_: no task is open"),
    "restore without begin": (fresh, lambda p: p.restore_(), RuntimeError, r"restore_: no task is open"),
    "settle without begin": (fresh, lambda p: p.settle_(), RuntimeError, r"settle_: no task is open"),
    "buffers without begin": (fresh, lambda p: p.restore_buffers_(), RuntimeError, r"restore_buffers_: no task is op"),
    "hold without begin": (fresh, lambda p: p.hold(), RuntimeError, r"hold: no task is open"),
    "begin twice": (with_open_task, lambda p: p.begin_task("dogs"), RuntimeError, r"'dogs'.*'cars' is open"),
    "begin the open task": (with_open_task, lambda p: p.begin_task("cars"), RuntimeError, r"'cars' is open"),
    "repeated name": (with_finished_task, lambda p: p.begin_task("cubs"), ValueError, r"'cubs' is finished already"),
    "prune twice": (with_pruned_task, lambda p: p.prune(0.5), RuntimeError, r"'cars': it was pruned already"),
    "prune scope": (with_open_task, lambda p: p.prune(0.5, scope="net"), ValueError, r"prune scope is 'net'"),
    "no free weight": (full, lambda p: p.begin_task("dogs"), CapacityError, r"'dogs'.*all 132 .*'cubs', 'cars'"),
    "view unknown": (with_finished_task, lambda p: p.subnetwork("x").__enter__(), ValueError, r"'x' is unknown.*cubs"),
    "view open": (with_open_task, lambda p: p.subnetwork("cars").__enter__(), ValueError, r"'cars' is still open"),
    **{
        f"name {name!r}": (fresh, lambda p, name=name: p.begin_task(name), ValueError, f"task name is {message}; ")
        for name, message in {
            "": r"''",
            "  ": r"'  '",
            ".": r"'\.'",
            "..": r"'\.\.'",
            "a/b": r"'a/b'",
            "/": r"'/'",
            "\n": r"'\\n'",
            "a\tb": r"'a\\tb'",
            "a\x00": r"'a\\x00'",
            3: r"3",
            None: r"None",
            b"cubs": r"b'cubs'",
        }.items()
    },
    **{
        f"ratio {ratio!r}": (
            with_open_task,
            lambda p, ratio=ratio: p.prune(ratio),
            ValueError,
            rf"prune ratio is {ratio!r}; allowed",
        )
        for ratio in [1, 1.0, 75, -0.1, "0.5", True, None, math.nan, math.inf]
    },
}


@pytest.mark.parametrize("what", REFUSALS)
def test_misuse_is_refused_with_what_was_given_and_changes_nothing(what):
    make, call, error, message = REFUSALS[what]
    packnet = make()
    before, state = picture(packnet), packnet.state_dict()
    with pytest.raises(error, match=message):
        call(packnet)
    assert equal(picture(packnet), before)
    assert equal(packnet.state_dict(), state)


INSIDE = {
    "begin_task": lambda p: p.begin_task("dogs"),
    "prune": lambda p: p.prune(0.5),
    "finish_task": lambda p: p.finish_task(),
    "abort_task": lambda p: p.abort_task(),
    "mask_gradients_": lambda p: p.mask_gradients_(),
    "restore_": lambda p: p.restore_(),
    "restore_buffers_": lambda p: p.restore_buffers_(),
    "settle_": lambda p: p.settle_(),
    "hold": lambda p: p.hold(),
    "subnetwork": lambda p: p.subnetwork("cubs").__enter__(),
    "verify": lambda p: p.verify(),
    "state_dict": lambda p: p.state_dict(),
    "load_state_dict": lambda p: p.load_state_dict(p._state.dump()),
    "copying or pickling": copy.deepcopy,
    "copying or pickling PackNet": pickle.dumps,
}


@pytest.mark.parametrize("make", [with_finished_task, with_open_task])
@pytest.mark.parametrize("action", INSIDE)
def test_inside_subnetwork_the_life_of_tasks_stands_still(action, make):
    packnet = make()
    outside = picture(packnet)
    with packnet.subnetwork("cubs"):
        inside = picture(packnet)
        with pytest.raises(RuntimeError, match=r"inside subnetwork\('cubs'\): leave the with block"):
            INSIDE[action](packnet)
        assert equal(picture(packnet), inside)
    assert equal(picture(packnet), outside)


def test_an_error_inside_subnetwork_passes_through_and_gives_the_weights_back_bit_for_bit():
    packnet = with_open_task()
    with torch.no_grad():
        packnet.module.fc.weight[packnet.owners["fc.weight"] == 2] = -0.0
    before = picture(packnet)

    def fail_inside():
        with packnet.subnetwork("cubs"):
            assert not equal(tensors(packnet.module), before["tensors"])
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        fail_inside()
    assert equal(picture(packnet), before)
    with packnet.subnetwork("cubs"):
        assert not packnet.module.bn.training


@pytest.mark.parametrize("keeping", [{}, OWN], ids=["shared", "per task"])
def test_an_interrupt_inside_subnetwork_gives_everything_back(keeping):
    packnet = with_finished_task(**keeping)
    packnet.begin_task("cars")
    train(packnet)
    before = picture(packnet)

    def interrupted():
        with packnet.subnetwork("cubs"):
            assert not equal(tensors(packnet.module), before["tensors"])
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert equal(picture(packnet), before)
    train(packnet)
    packnet.finish_task()
    packnet.verify()


@pytest.mark.parametrize("keeping", [{}, OWN], ids=["shared", "per task"])
@pytest.mark.parametrize("at", [1, 2, 5])
def test_an_interrupt_while_values_are_given_back_still_gives_everything_back(monkeypatch, at, keeping):
    packnet = with_finished_task(**keeping)
    packnet.begin_task("cars")
    train(packnet)
    before, put_back, calls = picture(packnet), view_module.put_back_, []

    def interrupted(*args):
        calls.append(args)
        if len(calls) == at:
            raise KeyboardInterrupt
        put_back(*args)

    monkeypatch.setattr(view_module, "put_back_", interrupted)

    def look():
        with packnet.subnetwork("cubs"):
            assert not equal(tensors(packnet.module), before["tensors"])

    with pytest.raises(KeyboardInterrupt):
        look()
    assert len(calls) > at
    assert equal(picture(packnet), before)
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
    packnet.hold()
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


def test_subnetwork_shows_own_and_earlier_weights_and_zero_elsewhere():
    packnet = fresh()
    for task in ("a", "b", "c"):
        pack(packnet, task)
    packnet.begin_task("d")
    train(packnet)
    live = {name: packnet.module.get_parameter(name).detach().clone() for name in packnet.owners}
    for number, task in enumerate(["a", "b", "c"], start=1):
        with packnet.subnetwork(task):
            for name, owner in packnet.owners.items():
                seen = torch.where((owner > 0) & (owner <= number), live[name], torch.zeros(()))
                assert same_bits(packnet.module.get_parameter(name), seen), (task, name)


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
    monkeypatch.setattr(prunable_module, "_why_not_held", lambda _: None)
    packnet = with_finished_task()
    if action == "loaded":
        state = packnet.state_dict()
        packnet = PackNet(TinyNet().to("meta"))
        packnet.load_state_dict(state)
    else:
        packnet.module.to("meta")
    devices = []

    @contextlib.contextmanager
    def spy(places, hidden, replaced):
        found = places()
        devices.extend((found[name].now.device.type, mask.device.type) for name, mask in hidden.items())
        yield

    # A meta tensor has no values to hide; a mask on another device than its weight is an error on a GPU.
    monkeypatch.setattr(packnet_module, "shown", spy)
    with packnet.subnetwork("cubs"):
        pass
    assert devices == [("meta", "meta")] * 2


def test_255_tasks_fit_and_one_more_is_refused():
    packnet = PackNet(nn.Linear(16, 16, bias=False))
    for number in range(255):
        packnet.begin_task(f"task{number}")
        owned = packnet.summary().total.owned[f"task{number}"]
        packnet.prune((owned - 1) / owned)
        packnet.finish_task()
    assert packnet.summary().total.owned == {f"task{number}": 1 for number in range(255)}
    assert packnet.summary().total.free == 1
    before = picture(packnet)
    with pytest.raises(CapacityError, match=r"'one more': 255 tasks are the most"):
        packnet.begin_task("one more")
    assert equal(picture(packnet), before)
    packnet.load_state_dict(packnet.state_dict())
    with packnet.subnetwork("task0"):
        assert int((packnet.module.weight != 0).sum()) == 1


@pytest.mark.parametrize(
    "net", [nn.LayerNorm(2), nn.utils.parametrizations.weight_norm(nn.Linear(2, 2))], ids=lambda net: type(net).__name__
)
def test_a_network_without_prunable_weights_has_no_capacity(net):
    packnet = PackNet(net)
    before = picture(packnet)
    with pytest.raises(CapacityError, match=rf"'cubs': {type(net).__name__} has no weights to divide among tasks"):
        packnet.begin_task("cubs")
    assert equal(picture(packnet), before)


@pytest.mark.parametrize("value", [nn.Linear, {"a": nn.Linear(1, 1)}, None])
def test_only_modules_are_packed(value):
    with pytest.raises(ValueError, match=rf"PackNet was given a {type(value).__name__}"):
        PackNet(value)


@pytest.mark.parametrize("task", ["cubs", "Stanford Cars", "日本", "a.b", "...", "head_0", "-x"])
def test_any_printable_name_is_a_task(task):
    packnet = fresh()
    packnet.begin_task(task)
    packnet.finish_task()
    assert packnet.tasks == [task]


def test_a_task_goes_from_train_to_retrain_to_finished():
    packnet = fresh()
    seen = [(packnet.open_task, packnet.phase, packnet.tasks)]
    packnet.begin_task("a")
    seen.append((packnet.open_task, packnet.phase, packnet.tasks))
    packnet.prune(0.5)
    seen.append((packnet.open_task, packnet.phase, packnet.tasks))
    packnet.finish_task()
    seen.append((packnet.open_task, packnet.phase, packnet.tasks))
    assert seen == [(None, None, []), ("a", "train", []), ("a", "retrain", []), (None, None, ["a"])]


def test_a_task_may_be_finished_without_pruning():
    packnet = fresh()
    pack(packnet, "a", ratio=None)
    assert packnet.summary().total.free == 0


def test_what_packnet_hands_out_is_a_copy():
    packnet = with_open_task()
    before = picture(packnet)
    packnet.tasks.append("x")
    packnet.private["x"] = ["y"]
    for owner in packnet.owners.values():
        owner.zero_()
    assert equal(picture(packnet), before)


def test_private_modules_are_remembered_until_their_task_is_aborted():
    packnet = fresh()
    packnet.begin_task("a", private=["heads.a", "norms.a"])
    packnet.prune(0.5)
    packnet.finish_task()
    packnet.begin_task("b", private=("heads.b",))
    assert packnet.private == {"a": ["heads.a", "norms.a"], "b": ["heads.b"]}
    packnet.abort_task()
    assert packnet.private == {"a": ["heads.a", "norms.a"]}


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
    before = picture(packnet)
    for call in (packnet.verify, packnet.state_dict, lambda: packnet.begin_task("dogs")):
        with pytest.raises(RuntimeError, match=rf"{name} is not what it was when task '{task}' was finished"):
            call()
    assert equal(picture(packnet), before)


def test_a_change_while_a_task_is_open_is_put_back_or_if_that_is_asked_for_only_noticed():
    packnet = with_open_task()
    before = tensors(packnet.module)
    with torch.no_grad():
        packnet.module.fc.bias.add_(1)
    changed = tensors(packnet.module)
    with pytest.raises(RuntimeError, match=r"fc\.bias is not what it was when task 'cubs' was finished"):
        packnet.verify(settle=False)
    assert equal(tensors(packnet.module), changed)
    packnet.verify()
    assert equal(tensors(packnet.module), before)
    packnet.verify(settle=False)


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


@pytest.mark.parametrize("prunes", [False, True])
@pytest.mark.parametrize("diverges", [False, True])
def test_abort_gives_everything_back_at_zero_and_the_state_is_as_before(prunes, diverges):
    packnet = with_finished_task()
    state, frozen = packnet.state_dict(), tensors(packnet.module)
    free = {name: owner == 0 for name, owner in packnet.owners.items()}
    packnet.begin_task("cars", private=["heads.cars"])
    train(packnet)
    if prunes:
        packnet.prune(0.5)
        train(packnet)
    if diverges:
        with torch.no_grad():
            for name in free:
                packnet.module.get_parameter(name).fill_(math.nan)
    assert not equal(tensors(packnet.module), frozen)
    packnet.abort_task()
    assert equal(packnet.state_dict(), state)
    # The free weights were zero before, so the whole network is what it was.
    assert equal(tensors(packnet.module), frozen)
    assert count_hooks(packnet.module) == 0
    for name, mask in free.items():
        assert not bits(packnet.module.get_parameter(name))[mask].any()
    pack(packnet, "cars")
    assert packnet.tasks == ["cubs", "cars"]


def test_abort_of_the_first_task_leaves_biases_and_norms_to_the_next():
    packnet = fresh()
    packnet.begin_task("a")
    train(packnet)
    frozen = {name: packnet.module.state_dict()[name].clone() for name in packnet.summary().frozen}
    packnet.abort_task()
    assert packnet.summary().total.free == 132
    assert not any(packnet.module.get_parameter(name).any() for name in packnet.owners)
    assert all(torch.equal(packnet.module.state_dict()[name], tensor) for name, tensor in frozen.items())
    pack(packnet, "b")
    assert packnet.tasks == ["b"]


@pytest.mark.parametrize("name", ["fc.weight", "fc.bias", "bn.running_var"])
def test_a_task_that_diverged_cannot_be_frozen(name):
    packnet = fresh()
    packnet.begin_task("a")
    packnet.prune(0.5)
    tensor = packnet.module.state_dict()[name]
    owner = packnet.owners.get(name)
    index = (0,) if owner is None else tuple((owner == 1).nonzero()[0])
    tensor[index] = math.nan
    before = picture(packnet)
    with pytest.raises(ValueError, match=rf"{name} holds NaN or infinity"):
        packnet.finish_task()
    assert equal(picture(packnet), before)


def test_the_module_is_the_same_beside_packnet_and_carries_no_hooks_between_tasks():
    net = TinyNet()
    keys, modules = list(net.state_dict()), [(name, id(module)) for name, module in net.named_modules()]
    ids = {name: id(parameter) for name, parameter in net.named_parameters()}
    attributes = {name: sorted(vars(module)) for name, module in net.named_modules()}

    def assert_same():
        assert list(net.state_dict()) == keys
        assert [(name, id(module)) for name, module in net.named_modules()] == modules
        assert {name: id(parameter) for name, parameter in net.named_parameters()} == ids
        assert {name: sorted(vars(module)) for name, module in net.named_modules()} == attributes

    packnet = PackNet(net)
    assert_same()
    for task in ("a", "b", "c"):
        packnet.begin_task(task)
        assert_same()
        train(packnet)
        packnet.prune(0.5)
        assert_same()
        train(packnet)
        packnet.finish_task()
        assert_same()
        assert count_hooks(net) == 0
    packnet.begin_task("d")
    assert count_hooks(net) == 1
    packnet.abort_task()
    assert count_hooks(net) == 0
    with packnet.subnetwork("a"):
        assert_same()
        assert count_hooks(net) == 0


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


@pytest.mark.parametrize("make", [fresh, with_finished_task, with_open_task, with_pruned_task])
def test_a_deepcopy_goes_on_by_itself(make):
    packnet = make()
    before = picture(packnet)
    twin = copy.deepcopy(packnet)
    assert equal(picture(twin), before)
    if twin.open_task is None:
        twin.begin_task("twin")
    train(twin)
    if twin.phase == "train":
        twin.prune(0.5)
    twin.finish_task()
    assert count_hooks(twin.module) == 0
    twin.verify()
    assert equal(picture(packnet), before)
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
        packnet.hold()
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
    for call in (packnet.restore_, packnet.settle_, packnet.finish_task):
        with pytest.raises(RuntimeError, match=r"was torch\.float32 .* and is torch\.float64 .*convert it back, or"):
            call()
    assert torch.equal(packnet.module.fc.weight.detach()[mine], before.double())
    # The other way that the message names: to take the values as they are now.
    packnet.hold()
    with torch.no_grad():
        packnet.module.fc.weight.add_(1)
    packnet.restore_()
    assert torch.equal(packnet.module.fc.weight.detach()[mine], before.double())


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
        r"changed since PackNet was made: \['fc\.weight'\]",
    ),
}


@pytest.mark.parametrize("action", ["settle_", "prune", "finish_task", "abort_task", "verify"])
@pytest.mark.parametrize("what", REPLACEMENTS)
def test_a_layer_that_another_one_replaced_while_a_task_is_open_is_named(what, action):
    packnet = with_open_task()
    make, message = REPLACEMENTS[what]
    fc, before = packnet.module.fc, picture(packnet)
    packnet.module.fc = make()
    arguments = (0.5,) if action == "prune" else ()
    with pytest.raises(RuntimeError, match=message):
        getattr(packnet, action)(*arguments)
    packnet.module.fc = fc
    assert equal(picture(packnet), before)
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
    packnet.settle_()
    assert equal(tensors(net), expected)
    # From then on they are the ones that are held.
    with torch.no_grad():
        net.bn.bias.add_(1)
    packnet.restore_()
    assert equal(tensors(net), expected)


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


# Buffers that layers change.


class Centred(TinyNet):
    """With a buffer that a layer replaces in each forward pass in training mode, and one in no state dict."""

    def __init__(self):
        super().__init__()
        self.centre = RunningCentre(36)
        self.register_buffer("count", torch.zeros(()), persistent=False)

    def forward(self, x):
        if self.training:
            self.count.add_(1)
        return super().forward(self.centre(x.flatten(1)).reshape(x.shape))


def told(call, *args, **kwargs):
    """The names of the buffers that are warned of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(*args, **kwargs)
    assert all("is a buffer that its layer changes while a later task" in str(warning.message) for warning in caught)
    return [str(warning.message).split()[0] for warning in caught]


def test_a_buffer_that_a_layer_changes_in_a_later_task_is_put_back_and_named_once():
    packnet = PackNet(Centred())
    assert told(pack, packnet, "a") == []
    mean, count = packnet.module.centre.mean.clone(), packnet.module.count.clone()
    assert mean.any()
    assert count == 6
    packnet.begin_task("b")
    assert told(train, packnet) == ["centre.mean", "count"]
    assert told(packnet.prune, 0.5) == []
    assert told(train, packnet) == []
    assert told(packnet.finish_task) == []
    assert same_bits(packnet.module.centre.mean, mean)
    assert same_bits(packnet.module.count, count)
    packnet.verify()
    packnet.begin_task("c")
    assert told(train, packnet, steps=1) == ["centre.mean", "count"]


def test_buffers_that_no_file_knows_are_in_no_fingerprint():
    packnet = PackNet(Centred())
    told(pack, packnet, "a")
    marks = packnet.state_dict()["fingerprints"]["a"]
    assert "centre.mean" in marks
    assert "count" not in marks
    packnet.module.count.add_(1)
    packnet.verify()
    packnet.module.centre.mean.add_(1)
    with pytest.raises(RuntimeError, match=r"centre\.mean is not what it was when task 'a'"):
        packnet.verify()


def test_buffers_alone_can_be_put_back():
    packnet = PackNet(Centred())
    told(pack, packnet, "a")
    expected = tensors(packnet.module)
    packnet.begin_task("b")
    packnet.module.train()
    packnet.module(images())
    with torch.no_grad():
        packnet.module.fc.bias.add_(1)
    assert told(packnet.restore_buffers_) == ["centre.mean", "count"]
    after = tensors(packnet.module)
    assert {name for name in expected if not torch.equal(after[name], expected[name])} == {"fc.bias"}


@pytest.mark.parametrize("kind", ["complex", "sparse", "bool", "-inf"])
def test_a_network_with_buffers_of_any_kind_goes_through_its_tasks(kind):
    value = {
        "complex": torch.tensor([1 + 2j, -0.0]),
        "sparse": torch.eye(3).to_sparse(),
        "bool": torch.tensor([True, False]),
        "-inf": torch.full((3, 3), -math.inf).triu(1),
    }[kind]
    net = TinyNet()
    net.register_buffer("table", value.clone())
    packnet = PackNet(net)
    pack(packnet, "a")
    packnet.begin_task("b")
    net.table = (value * 2).to(value.dtype) if kind == "sparse" else torch.zeros_like(value)
    assert told(packnet.restore_) == ["table"]
    assert same_bits(net.table, value)
    with packnet.subnetwork("a"):
        assert same_bits(net.table, value)
    packnet.prune(0.5)
    packnet.finish_task()
    packnet.verify()
    net.table = {"bool": torch.logical_not, "-inf": torch.zeros_like}.get(kind, lambda table: table * 2)(value)
    with pytest.raises(RuntimeError, match=r"table is not what it was when task 'a'"):
        packnet.verify()


@pytest.mark.filterwarnings("ignore:.*torch.jit")
@WITHOUT_WARNINGS
def test_statistics_of_a_scripted_layer_are_put_back_though_it_cannot_be_kept_in_eval_mode():
    net = TinyNet()
    net.bn = torch.jit.script(net.bn)
    packnet = PackNet(net)
    assert "bn.running_mean" in packnet.summary().frozen
    pack(packnet, "a")
    before = tensors(net.bn)
    packnet.begin_task("b")
    net.train()
    net(images())
    assert not equal(tensors(net.bn), before)
    packnet.restore_()
    assert equal(tensors(net.bn), before)


# Several processes.


def test_what_was_agreed_on_is_what_is_released():
    packnet, alone = fresh(), fresh()
    alone.module.load_state_dict(packnet.module.state_dict())
    asked = []

    def agree(choices):
        for choice in choices:
            asked.append((choice.dtype, choice.shape, int(choice.sum())))
            choice.copy_(choice.flip(0))

    for each in (packnet, alone):
        each.begin_task("a")
    before = {name: packnet.module.get_parameter(name).detach().clone() for name in packnet.owners}
    packnet.prune(0.5, agree=agree)
    alone.prune(0.5)
    assert asked == [(torch.bool, (4, 1, 3, 3), 18), (torch.bool, (6, 16), 48)]
    for name, owner in packnet.owners.items():
        assert torch.equal(owner, alone.owners[name].flip(0))
        assert not torch.equal(owner, alone.owners[name])
        weight = packnet.module.get_parameter(name).detach()
        assert same_bits(weight, before[name].masked_fill(owner == 0, 0))
    # What is free now stays at zero.
    train(packnet)
    assert not any(bits(packnet.module.get_parameter(name))[owner == 0].any() for name, owner in packnet.owners.items())


def test_a_failure_to_agree_changes_nothing():
    packnet = with_open_task()
    before, state = picture(packnet), packnet.state_dict()

    def agree(choices):
        for choice in choices:
            choice.fill_(True)
        raise KeyError("a process is gone")

    with pytest.raises(KeyError, match="a process is gone"):
        packnet.prune(0.5, agree=agree)
    assert equal(picture(packnet), before)
    assert equal(packnet.state_dict(), state)


# Private modules.


class Root(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleDict({task: nn.Sequential(nn.Linear(6, 2), nn.BatchNorm1d(2)) for task in "abc"})


def with_private_modules():
    root = Root(TinyNet())
    packnet = PackNet(root.backbone)
    for task in "ab":
        packnet.begin_task(task, private=[f"heads.{task}"], root=root)
        packnet.prune(0.5)
        packnet.finish_task(root)
    return packnet, root


def test_private_modules_that_are_what_they_were_verify():
    packnet, root = with_private_modules()
    with torch.no_grad():
        root.heads["c"][0].weight.add_(1)
    packnet.verify(root)
    packnet.begin_task("c", private=["heads.c"], root=root)
    with torch.no_grad():
        root.heads["c"][0].weight.add_(1)
    packnet.verify(root)
    assert list(packnet.state_dict(root)["private_fingerprints"]) == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "task"), [("heads.a.0.weight", "a"), ("heads.b.0.bias", "b"), ("heads.a.1.running_mean", "a")]
)
def test_a_changed_private_module_is_named_before_anything_is_built_on_it(name, task):
    packnet, root = with_private_modules()
    with torch.no_grad():
        root.state_dict()[name].add_(1)
    before = picture(packnet)
    for call in (packnet.verify, packnet.state_dict, lambda root: packnet.begin_task("c", root=root)):
        with pytest.raises(RuntimeError, match=rf"^{name} is not what it was when task '{task}' was finished"):
            call(root)
    assert equal(picture(packnet), before)
    # Who does not show them does not have them looked at.
    packnet.verify()
    packnet.state_dict()
    packnet.begin_task("c")


def test_private_modules_are_looked_at_in_another_process_too():
    packnet, root = with_private_modules()
    state, weights = packnet.state_dict(root), root.state_dict()
    other = Root(TinyNet())
    loaded = PackNet(other.backbone)
    loaded.load_state_dict(state)
    other.load_state_dict(weights)
    loaded.verify(other)
    with torch.no_grad():
        other.heads["a"][0].bias.neg_()
    with pytest.raises(RuntimeError, match=r"heads\.a\.0\.bias is not what it was when task 'a'"):
        loaded.verify(other)


def test_a_task_that_was_finished_without_its_private_modules_is_not_asked_for_them():
    root = Root(TinyNet())
    packnet = PackNet(root.backbone)
    packnet.begin_task("a", private=["heads.a"])
    packnet.finish_task()
    with torch.no_grad():
        root.heads["a"][0].weight.add_(1)
    packnet.verify(root)


def test_what_a_private_module_shares_with_the_shared_part_is_looked_at_there():
    root = Root(TinyNet())
    root.heads["a"][0].weight = nn.Parameter(torch.randn(2, 6))
    root.heads["a"].shared = root.backbone.bn
    packnet = PackNet(root.backbone)
    packnet.begin_task("a", private=["heads.a"])
    packnet.finish_task(root)
    marks = packnet.state_dict()["private_fingerprints"]["a"]
    assert "heads.a.0.weight" in marks
    assert not any("shared" in name for name in marks)


def test_each_task_is_marked_by_what_it_has_and_no_earlier_one():
    packnet = with_finished_task()
    pack(packnet, "cars")
    marks = packnet.state_dict()["fingerprints"]
    assert set(marks["cubs"]) == set(packnet.module.state_dict())
    assert set(marks["cars"]) == set(packnet.owners)


def wanted(net):
    return {name: parameter.requires_grad for name, parameter in net.named_parameters()}


def test_gradients_of_what_is_fixed_stop_and_are_given_back_as_they_were():
    packnet = fresh()
    net, other, never = packnet.module, nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False)
    net.bn.bias.requires_grad_(False)
    before = wanted(net)
    packnet.stop_gradients()
    assert wanted(net) == before
    pack(packnet, "a")
    for _ in range(2):
        packnet.stop_gradients([*other.parameters(), *never.parameters()])
        assert {name for name, needed in wanted(net).items() if needed} == {"conv.weight", "fc.weight"}
        assert not any(wanted(other).values())
    packnet.give_back_gradients()
    assert wanted(net) == before
    assert all(wanted(other).values())
    assert not any(wanted(never).values())
    packnet.give_back_gradients()
    assert wanted(net) == before


@pytest.mark.parametrize("fails", [False, True])
def test_subnetwork_computes_with_the_gradients_that_the_task_was_trained_with(fails):
    packnet = fresh()
    before = wanted(packnet.module)
    pack(packnet, "cubs")
    packnet.stop_gradients()
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
    packnet.give_back_gradients()
    assert wanted(packnet.module) == before


def test_fixed_parameters_are_those_that_no_later_task_changes():
    packnet = fresh()
    net = packnet.module
    assert packnet.fixed_parameters() == []
    packnet.begin_task("a")
    assert packnet.fixed_parameters() == []
    packnet.finish_task()
    expected = [net.conv.bias, net.bn.weight, net.bn.bias, net.fc.bias]
    assert [id(parameter) for parameter in packnet.fixed_parameters()] == [id(parameter) for parameter in expected]


@pytest.mark.parametrize(
    ("keeping", "expected"),
    [({"norm": "per_task"}, ["conv.bias", "fc.bias"]), ({"bias": "per_task"}, ["bn.weight", "bn.bias"]), (OWN, [])],
    ids=["norm", "bias", "both"],
)
def test_what_each_task_has_for_itself_is_not_fixed(keeping, expected):
    packnet = with_finished_task(**keeping)
    found = {id(parameter) for parameter in packnet.fixed_parameters()}
    assert [name for name, parameter in packnet.module.named_parameters() if id(parameter) in found] == expected


# Norms and biases of each task's own.

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


@pytest.mark.parametrize("keeping", [{}, {"norm": "per_task"}, {"bias": "per_task"}, OWN], ids=str)
def test_a_checkpoint_says_how_norms_and_biases_are_kept(tmp_path, keeping):
    packnet = with_finished_task(**keeping)
    path = tmp_path / "last.ckpt"
    torch.save({"packnet": packnet.state_dict()}, path)
    net = TinyNet()
    net.load_state_dict(packnet.module.state_dict())
    loaded = PackNet.from_checkpoint(net, path)
    loaded.verify()
    assert equal(loaded.state_dict(), packnet.state_dict())


def test_a_checkpoint_gives_packnet_back(tmp_path):
    packnet = with_pruned_task()
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": packnet.module.state_dict(), "packnet": packnet.state_dict()}, path)
    net = TinyNet()
    loaded = PackNet.from_checkpoint(net, path)
    net.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
    loaded.verify()
    assert equal(loaded.state_dict(), packnet.state_dict())


def test_a_checkpoint_without_packnet_is_refused_by_path(tmp_path):
    path = tmp_path / "other.ckpt"
    torch.save({"state_dict": {}}, path)
    with pytest.raises(ValueError, match=r"other\.ckpt holds no PackNet state"):
        PackNet.from_checkpoint(TinyNet(), path)


@pytest.mark.parametrize("state", [[1], None, "a"])
def test_a_checkpoint_with_something_else_in_the_place_of_the_state_is_refused(tmp_path, state):
    torch.save({"packnet": state}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="PackNet state"):
        PackNet.from_checkpoint(TinyNet(), tmp_path / "other.ckpt")


def test_the_core_needs_torch_only():
    code = (
        "import sys, packnet_pl.core; "
        "print(sorted({name.split('.')[0] for name in sys.modules} "
        "& {'pytorch_lightning', 'lightning', 'hydra', 'omegaconf', 'torchvision', 'torchmetrics', 'numba'}))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


small = st.sampled_from([-2.0, -1.0, -0.0, 0.0, 0.5, 1.0]) | st.floats(-4, 4, width=32)


@settings(max_examples=100)
@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(1, 4)), min_size=1, max_size=3),
    st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=5),
    st.sampled_from(["layer", "global"]),
    st.data(),
)
def test_any_sequence_of_tasks_divides_the_weights_exactly(shapes, ratios, scope, data):
    packnet = PackNet(nn.ModuleList(nn.Linear(wide, high, bias=False) for wide, high in shapes))
    weights = {name: packnet.module.get_parameter(name) for name in packnet.owners}
    sizes = {name: weight.numel() for name, weight in weights.items()}
    for number, ratio in enumerate(ratios, start=1):
        if packnet.summary().total.free == 0:
            with pytest.raises(CapacityError):
                packnet.begin_task("too many")
            break
        before = {name: (owner, weights[name].detach().clone()) for name, owner in packnet.owners.items()}
        free = {name: marked(owner == 0) for name, (owner, _) in before.items()}
        packnet.begin_task(f"task{number}")
        with torch.no_grad():
            for name, weight in weights.items():
                values = data.draw(st.lists(small, min_size=sizes[name], max_size=sizes[name]))
                weight.copy_(torch.tensor(values).reshape(weight.shape))
        packnet.restore_()
        trained = {name: weight.detach().reshape(-1).tolist() for name, weight in weights.items()}
        packnet.prune(ratio, scope=scope)

        released = expected_releases(trained, free, ratio, scope)
        for name, owner in packnet.owners.items():
            old_owner, old_weight = before[name]
            mine = old_owner == 0
            assert marked(owner == number) == free[name] - released[name]
            assert marked(owner == 0) == released[name]
            assert torch.equal(owner[~mine], old_owner[~mine])
            assert same_bits(weights[name][~mine], old_weight[~mine])
            kept = torch.tensor([0.0 if i in released[name] else value for i, value in enumerate(trained[name])])
            assert same_bits(weights[name].reshape(-1), kept)
        if data.draw(st.booleans(), label="abort"):
            packnet.abort_task()
            assert all(torch.equal(owner, before[name][0]) for name, owner in packnet.owners.items())
            assert not any(bits(weights[name])[before[name][0] == 0].any() for name in weights)
            break
        packnet.finish_task()
        total = packnet.summary().total
        assert total.free + sum(total.owned.values()) == sum(sizes.values())
    packnet.verify()


def expected_releases(values, eligible, ratio, scope):
    if scope == "layer":
        return {
            name: plain_choice(
                values[name],
                [i in eligible[name] for i in range(len(values[name]))],
                round(ratio * len(eligible[name])),
            )
            for name in values
        }
    places = [(name, i) for name in values for i in range(len(values[name]))]
    mine = [i in eligible[name] for name, i in places]
    chosen = plain_choice([values[name][i] for name, i in places], mine, round(ratio * sum(mine)))
    return {name: {places[k][1] for k in chosen if places[k][0] == name} for name in values}
