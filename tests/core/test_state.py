import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import packnet_pl.core.inventory as inventory_module
from packnet_pl.core import PackNet
from packnet_pl.core.state_dump import digest
from tests.support.tiny import TinyNet, count_hooks, equal, pack, snapshot, tensors, train


def packed(open_phase=None, **keeping):
    packnet = PackNet(TinyNet(), **keeping)
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
    left, right = snapshot(twin), snapshot(packnet)
    assert equal(left, right)
    twin.verify()


OWN = {"norm": "per_task", "bias": "per_task"}


@pytest.mark.parametrize("keeping", [{}, OWN], ids=["shared", "per task"])
@pytest.mark.parametrize("phase", ["train", "retrain"])
@pytest.mark.parametrize("weights_first", [True, False])
def test_an_open_task_goes_on_in_another_process_as_if_nothing_had_been(weights_first, phase, keeping):
    packnet = packed(phase, **keeping)
    weights, state = copy.deepcopy(packnet.module.state_dict()), packnet.state_dict()
    twin = PackNet(TinyNet(), **keeping)
    if weights_first:
        twin.module.load_state_dict(weights)
    twin.load_state_dict(state)
    assert count_hooks(twin.module) == (0 if keeping else 1)
    twin.module.load_state_dict(weights)
    for each in (packnet, twin):
        torch.manual_seed(1)
        train(each)
        if each.phase == "train":
            each.prune(0.5)
        each.finish_task()
        each.verify()
    assert equal(snapshot(twin), snapshot(packnet))
    assert equal(twin.state_dict(), packnet.state_dict())
    for task in packnet.tasks:
        with packnet.subnetwork(task), twin.subnetwork(task):
            assert equal(tensors(twin.module), tensors(packnet.module))


def test_the_right_weights_are_welcome_after_others_were_noticed():
    packnet = packed("train")
    weights, state = copy.deepcopy(packnet.module.state_dict()), packnet.state_dict()
    twin = PackNet(TinyNet())
    twin.load_state_dict(state)
    with pytest.raises(RuntimeError, match="load the right weights again"):
        twin.verify()
    twin.module.load_state_dict(weights)
    twin.verify()
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


def test_a_state_that_was_taken_stays_on_its_device(monkeypatch):
    # A network without values is refused otherwise; here it stands for one on another device.
    monkeypatch.setattr(inventory_module, "why_not_frozen", lambda _: None)
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
    assert (state["format"], state["norm"], state["bias"]) == (4, "shared", "shared")
    assert state["copies"] == {"a": {}, "b": {}}
    check(packed("train", **OWN).state_dict())


def test_what_each_task_has_for_itself_is_in_the_state_and_stays_as_it_was():
    packnet = packed("retrain", **OWN)
    state = packnet.state_dict()
    before = copy.deepcopy(state)
    norm = [f"bn.{key}" for key in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")]
    assert {task: sorted(copies) for task, copies in state["copies"].items()} == {
        task: sorted([*norm, "conv.bias", "fc.bias"]) for task in "ab"
    }
    train(packnet)
    packnet.finish_task()
    pack(packnet, "d")
    assert equal(state, before)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda copies: copies.pop("bn.bias"), r"task 'b' has other norms or biases than the network: \['bn\.bias'\]"),
        (lambda copies: copies.update({"bn.bias": torch.zeros(5)}), r"task 'b' has other.*\['bn\.bias'\]"),
        (lambda copies: copies.update({"fc.weight": torch.zeros(6, 16)}), r"task 'b' has other.*\['fc\.weight'\]"),
        (lambda copies: copies.update({"fc.bias": None}), r"task 'b' has other.*\['fc\.bias'\]"),
    ],
    ids=["missing", "another shape", "one too many", "no tensor"],
)
def test_copies_that_do_not_fit_the_network_are_refused(change, message):
    packnet = packed(**OWN)
    before, state = snapshot(packnet), packnet.state_dict()
    bad = {**state, "copies": {task: dict(copies) for task, copies in state["copies"].items()}}
    change(bad["copies"]["b"])
    with pytest.raises(ValueError, match=message):
        packnet.load_state_dict(bad)
    assert equal(snapshot(packnet), before)
    assert equal(packnet.state_dict(), state)


@pytest.mark.parametrize("given", ["shared", "per_task"])
@pytest.mark.parametrize("what", ["norm", "bias"])
def test_a_state_that_keeps_norms_or_biases_otherwise_is_refused_with_what_to_do(what, given):
    here = "per_task" if given == "shared" else "shared"
    state = packed(**{what: given}).state_dict()
    packnet = packed(**{what: here})
    before = snapshot(packnet)
    with pytest.raises(
        ValueError, match=rf"made with {what}='{given}', and this PackNet with {what}='{here}'.*from_checkpoint"
    ):
        packnet.load_state_dict(state)
    assert equal(snapshot(packnet), before)


@pytest.mark.parametrize("given", [True, "own", None, 1])
@pytest.mark.parametrize("what", ["norm", "bias"])
def test_norms_and_biases_are_kept_in_one_of_two_ways(what, given):
    with pytest.raises(ValueError, match=rf"{what} is {given!r}; allowed are 'shared' and 'per_task'"):
        PackNet(TinyNet(), **{what: given})


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
    "older format": (edit(format=1), r"has format 1; this version reads formats 2 to 4"),
    "older format with other keys": (
        lambda state: {key: value for key, value in edit(format=1)(state).items() if key not in ("norm", "copies")},
        r"has format 1; this version reads formats 2 to 4",
    ),
    "parameter missing": (without("owners", "fc.weight"), r"another network: 1 parameter without owners.*fc\.weight"),
    "parameter unknown": (
        lambda state: {**state, "owners": {**state["owners"], "x.weight": torch.zeros(1, dtype=torch.uint8)}},
        r"another network.*1 owner map without a parameter.*x\.weight",
    ),
    "owner type": (
        edit_owner("fc.weight", lambda o: o.long()),
        r"fc\.weight are torch\.int64 \(6, 16\); expected uint8",
    ),
    "owner shape": (edit_owner("fc.weight", lambda o: o[:5]), r"fc\.weight are .*\(5, 16\); expected uint8 \(6, 16\)"),
    "owner no tensor": (edit_owner("fc.weight", lambda o: o.tolist()), r"fc\.weight are list; expected uint8"),
    "owner too large": (
        edit_owner("conv.weight", lambda o: o + 3),
        r"conv\.weight has owner \d, with 3 tasks",
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
    "fingerprint no string": (edit(fingerprints={"a": {"conv.weight": 3}, "b": {}}), r"a fingerprint is not a string"),
    "private fingerprint no string": (edit(private_fingerprints={"a": {"x": 3}}), r"a fingerprint is not a string"),
    "private fingerprints no dict": (edit(private_fingerprints={"a": ["x"]}), r"malformed"),
    "private fingerprints of a stranger": (edit(private_fingerprints={"x": {}}), r"private modules do not belong"),
    "private fingerprints of the open task": (edit(private_fingerprints={"c": {}}), r"private modules do not belong"),
    "norm unknown": (edit(norm="own"), r"malformed: norm is 'own'; allowed are 'shared' and 'per_task'"),
    "bias unknown": (edit(bias=None), r"malformed: bias is None; allowed are 'shared' and 'per_task'"),
    "norm of each task": (edit(norm="per_task"), r"made with norm='per_task', and this PackNet with norm='shared'"),
    "bias of each task": (edit(bias="per_task"), r"made with bias='per_task', and this PackNet with bias='shared'"),
    "copies missing": (without("copies", "a"), r"have copies of their own"),
    "copies of a stranger": (
        lambda state: {**state, "copies": {**state["copies"], "x": {}}},
        r"have copies of their own",
    ),
    "copies of tensors that all share": (
        lambda state: {**state, "copies": {**state["copies"], "a": {"bn.bias": torch.zeros(4)}}},
        r"task 'a' has other norms or biases than the network: \['bn\.bias'\]",
    ),
    "copies no dict": (edit(copies={"a": ["x"], "b": {}}), r"malformed"),
}


@pytest.mark.parametrize("what", BAD_STATES)
def test_a_bad_state_is_refused_and_changes_nothing(what):
    change, message = BAD_STATES[what]
    packnet = packed("train")
    before, state = snapshot(packnet), packnet.state_dict()
    with pytest.raises(ValueError, match=message):
        packnet.load_state_dict(change(state))
    assert equal(snapshot(packnet), before)
    assert equal(packnet.state_dict(), state)
    train(packnet)
    packnet.finish_task()
    packnet.verify()


def test_a_state_of_another_network_is_refused():
    state = PackNet(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))).state_dict()
    packnet = PackNet(TinyNet())
    before = snapshot(packnet)
    with pytest.raises(ValueError, match=r"another network: 2 parameters without owners.*2 owner maps"):
        packnet.load_state_dict(state)
    assert equal(snapshot(packnet), before)


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


@pytest.mark.parametrize("keeping", [{}, OWN], ids=["shared", "per task"])
def test_processes_that_know_the_same_have_the_same_digest(keeping):
    packnet = packed("train", **keeping)
    twin = PackNet(TinyNet(), **keeping)
    assert digest(twin.state) != digest(packnet.state)
    twin.load_state_dict(packnet.state_dict())
    assert digest(twin.state) == digest(packnet.state)
    # The weights are not part of it.
    train(packnet)
    assert digest(twin.state) == digest(packnet.state)


def test_the_digest_is_of_everything_that_is_known():
    state = packed("train", **OWN).state_dict()
    owners, copies, marks = state["owners"], state["copies"], state["fingerprints"]
    changes = [
        {},
        {"open_task": "d", "private": {"a": [], "b": [], "d": ["heads.c"]}},
        {"phase": "retrain"},
        {"private": {**state["private"], "c": ["heads.other"]}},
        {"owners": {**owners, "fc.weight": owners["fc.weight"].flip(0)}},
        {"copies": {**copies, "a": {**copies["a"], "fc.bias": -copies["a"]["fc.bias"]}}},
        {"copies": {"a": copies["b"], "b": copies["a"]}},
        {"fingerprints": {"a": marks["b"], "b": marks["a"]}},
        {"private_fingerprints": {"a": {"heads.a.weight": "float32:0"}}},
    ]
    digests = set()
    for change in changes:
        packnet = PackNet(TinyNet(), **OWN)
        packnet.load_state_dict({**state, **change})
        digests.add(digest(packnet.state))
    assert len(digests) == len(changes)
    assert digest(PackNet(TinyNet(), norm="per_task").state) != digest(PackNet(TinyNet()).state)
