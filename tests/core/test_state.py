import copy

import pytest
import torch
from core_toys import TinyNet, count_hooks, equal, pack, picture, tensors, train
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from packnet_pl.core import PackNet
from packnet_pl.core.state import check_name


def packed(open_phase=None):
    packnet = PackNet(TinyNet())
    pack(packnet, "a")
    pack(packnet, "b")
    if open_phase:
        packnet.begin_task("c", private=["heads.c"])
        train(packnet)
    if open_phase == "retrain":
        packnet.prune(0.5)
        train(packnet)
    return packnet


@settings(max_examples=15)
@given(
    st.lists(st.floats(0, 0.9), max_size=3),
    st.sampled_from([None, "train", "retrain"]),
    st.sampled_from(["layer", "global"]),
)
def test_a_state_comes_back_as_it_was_through_a_file(tmp_path_factory, ratios, open_phase, scope):
    packnet = PackNet(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)))
    for number, ratio in enumerate(ratios):
        if packnet.summary().total.free:
            packnet.begin_task(f"task{number}", private=[f"heads.{number}"])
            packnet.prune(ratio, scope=scope)
            packnet.finish_task()
    if open_phase and packnet.summary().total.free:
        packnet.begin_task("open")
        if open_phase == "retrain":
            packnet.prune(0.5)
    path = tmp_path_factory.mktemp("state") / "state.pt"
    torch.save((packnet.module.state_dict(), packnet.state_dict()), path)
    weights, state = torch.load(path, weights_only=True)

    twin = PackNet(nn.Sequential(nn.Linear(4, 3), nn.Linear(3, 2)))
    twin.load_state_dict(state)
    twin.module.load_state_dict(weights)
    assert equal(twin.state_dict(), packnet.state_dict())
    left, right = picture(twin), picture(packnet)
    assert equal(left, right)
    twin.verify()


@pytest.mark.parametrize("phase", ["train", "retrain"])
@pytest.mark.parametrize("weights_first", [True, False])
def test_an_open_task_goes_on_in_another_process_as_if_nothing_had_been(weights_first, phase):
    packnet = packed(phase)
    weights, state = copy.deepcopy(packnet.module.state_dict()), packnet.state_dict()
    twin = PackNet(TinyNet())
    if weights_first:
        twin.module.load_state_dict(weights)
    twin.load_state_dict(state)
    assert count_hooks(twin.module) == 1
    twin.module.load_state_dict(weights)
    for each in (packnet, twin):
        torch.manual_seed(1)
        train(each)
        if each.phase == "train":
            each.prune(0.5)
        each.finish_task()
        each.verify()
    assert equal(picture(twin), picture(packnet))
    assert equal(twin.state_dict(), packnet.state_dict())
    for task in packnet.tasks:
        with packnet.subnetwork(task), twin.subnetwork(task):
            assert equal(tensors(twin.module), tensors(packnet.module))


def test_loading_a_state_without_an_open_task_ends_the_open_one():
    packnet = packed()
    state, weights = packnet.state_dict(), copy.deepcopy(packnet.module.state_dict())
    packnet.begin_task("c")
    train(packnet)
    packnet.load_state_dict(state)
    assert packnet.open_task is None
    assert count_hooks(packnet.module) == 0
    packnet.module.load_state_dict(weights)
    packnet.verify()


def test_a_state_that_was_taken_stays_as_it_was():
    packnet = packed("train")
    state = packnet.state_dict()
    before = copy.deepcopy(state)
    packnet.prune(0.5)
    train(packnet)
    packnet.finish_task()
    pack(packnet, "d")
    assert equal(state, before)


def test_a_state_that_was_taken_stays_on_its_device():
    packnet = packed()
    state = packnet.state_dict()
    packnet.module.to("meta")
    assert {owner.device.type for owner in packnet.owners.values()} == {"meta"}
    assert {owner.device.type for owner in state["owners"].values()} == {"cpu"}


def test_two_networks_that_loaded_one_state_are_independent():
    packnet = packed()
    state = packnet.state_dict()
    twin = copy.deepcopy(packnet)
    twin.load_state_dict(state)
    pack(twin, "c")
    assert packnet.tasks == ["a", "b"]
    assert equal(packnet.state_dict(), state)


def test_a_state_holds_tensors_and_primitives_only():
    def check(value):
        if isinstance(value, dict):
            assert type(value) is dict
            assert all(isinstance(key, str) for key in value)
            for item in value.values():
                check(item)
        elif isinstance(value, list):
            for item in value:
                check(item)
        else:
            assert value is None or type(value) in (str, int, torch.Tensor)

    state = packed("retrain").state_dict()
    check(state)
    assert state["tasks"] == ["a", "b"]
    assert (state["open_task"], state["phase"]) == ("c", "retrain")
    assert all(owner.dtype == torch.uint8 for owner in state["owners"].values())


def edit(**changes):
    return lambda state: {**state, **changes}


def edit_owner(name, make):
    return lambda state: {**state, "owners": {**state["owners"], name: make(state["owners"][name])}}


def without(key, inner=None):
    def change(state):
        if inner is None:
            return {name: value for name, value in state.items() if name != key}
        return {**state, key: {name: value for name, value in state[key].items() if name != inner}}

    return change


BAD_STATES = {
    "not a dict": (lambda state: list(state), r"has the keys .*; this one has list"),
    "empty": (lambda _: {}, r"has the keys .*'owners'.*; this one has \[\]"),
    **{
        f"without {key}": (without(key), r"has the keys") for key in ("format", "tasks", "open_task", "phase", "owners")
    },
    "without private": (without("private"), r"has the keys"),
    "without fingerprints": (without("fingerprints"), r"has the keys"),
    "unknown key": (edit(extra=1), r"this one has .*'extra'"),
    "other format": (edit(format=2), r"has format 2; this version reads format 1"),
    "parameter missing": (without("owners", "fc.weight"), r"another network: 1 parameters have no owners.*fc\.weight"),
    "parameter unknown": (
        lambda state: {**state, "owners": {**state["owners"], "x.weight": torch.zeros(1, dtype=torch.uint8)}},
        r"another network.*1 owner maps have no parameter.*x\.weight",
    ),
    "owner type": (
        edit_owner("fc.weight", lambda o: o.long()),
        r"fc\.weight are torch\.int64 \(6, 16\); expected uint8",
    ),
    "owner shape": (edit_owner("fc.weight", lambda o: o[:5]), r"fc\.weight are .*\(5, 16\); expected uint8 \(6, 16\)"),
    "owner no tensor": (edit_owner("fc.weight", lambda o: o.tolist()), r"fc\.weight are list; expected uint8"),
    "owner too large": (
        edit_owner("conv.weight", lambda o: o + 3),
        r"conv\.weight has owner \d, but there are 3 tasks",
    ),
    "task repeated": (edit(open_task="a"), r"each once"),
    "task name": (edit(open_task="a/b"), r"task name is 'a/b'"),
    "phase unknown": (edit(phase="prune"), r"open task 'c' in phase 'prune'"),
    "phase missing": (edit(phase=None), r"open task 'c' in phase None"),
    "task missing": (lambda state: {**edit(tasks=["a"])(state)}, r"owner|fingerprints"),
    "fingerprints missing": (without("fingerprints", "a"), r"fingerprints"),
    "private of a stranger": (edit(private={"x": ["heads.x"]}), r"private modules do not belong"),
    "tasks no list": (edit(tasks=None), r"malformed"),
    "owners no dict": (edit(owners=None), r"malformed"),
}


@pytest.mark.parametrize("what", BAD_STATES)
def test_a_bad_state_is_refused_and_changes_nothing(what):
    change, message = BAD_STATES[what]
    packnet = packed("train")
    before, state = picture(packnet), packnet.state_dict()
    with pytest.raises(ValueError, match=message):
        packnet.load_state_dict(change(state))
    assert equal(picture(packnet), before)
    assert equal(packnet.state_dict(), state)
    train(packnet)
    packnet.finish_task()
    packnet.verify()


def test_a_state_of_another_network_is_refused():
    state = PackNet(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))).state_dict()
    packnet = PackNet(TinyNet())
    before = picture(packnet)
    with pytest.raises(ValueError, match=r"another network: 2 parameters have no owners.*2 owner maps"):
        packnet.load_state_dict(state)
    assert equal(picture(packnet), before)


def test_a_phase_without_an_open_task_is_refused():
    packnet = packed()
    with pytest.raises(ValueError, match=r"open task None in phase 'train'"):
        packnet.load_state_dict({**packnet.state_dict(), "phase": "train"})


def test_a_state_with_other_weights_does_not_verify():
    packnet = packed()
    other = PackNet(TinyNet())
    other.load_state_dict(packnet.state_dict())
    with pytest.raises(RuntimeError, match=r"is not what it was when task 'a'"):
        other.verify()


@pytest.mark.parametrize("name", ["cubs", "Stanford Cars", "日本語", ".hidden", "...", "a\\b"])
def test_printable_names_are_allowed(name):
    assert check_name(name) == name


@given(st.text(max_size=5))
def test_a_name_is_either_returned_or_refused(name):
    allowed = bool(name.strip()) and name.isprintable() and "/" not in name and name not in {".", ".."}
    if allowed:
        assert check_name(name) == name
    else:
        with pytest.raises(ValueError, match="task name is "):
            check_name(name)
