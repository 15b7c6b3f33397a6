"""A task's way from begin to finish, and what it is called."""

import pytest
from torch import nn

from packnet_pl.core import CapacityError, PackNet
from tests.support.packnet_states import fresh, with_open_task
from tests.support.tiny import (
    equal,
    pack,
    snapshot,
)


def test_255_tasks_fit_and_one_more_is_refused():
    packnet = PackNet(nn.Linear(16, 16, bias=False))
    for number in range(255):
        packnet.begin_task(f"task{number}")
        owned = packnet.summary().total.owned[f"task{number}"]
        packnet.prune((owned - 1) / owned)
        packnet.finish_task()
    assert packnet.summary().total.owned == {f"task{number}": 1 for number in range(255)}
    assert packnet.summary().total.free == 1
    before = snapshot(packnet)
    with pytest.raises(CapacityError, match=r"'one more': 255 tasks are the most"):
        packnet.begin_task("one more")
    assert equal(snapshot(packnet), before)
    packnet.load_state_dict(packnet.state_dict())
    with packnet.subnetwork("task0"):
        assert int((packnet.module.weight != 0).sum()) == 1


@pytest.mark.parametrize("net", [nn.LayerNorm(2), nn.Embedding(2, 2)], ids=lambda net: type(net).__name__)
def test_a_network_without_prunable_weights_has_no_capacity(net):
    packnet = PackNet(net)
    before = snapshot(packnet)
    with pytest.raises(CapacityError, match=rf"'cubs': {type(net).__name__} has no weights to divide among tasks"):
        packnet.begin_task("cubs")
    assert equal(snapshot(packnet), before)


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
    before = snapshot(packnet)
    packnet.tasks.append("x")
    packnet.private["x"] = ["y"]
    for owner in packnet.owners.values():
        owner.zero_()
    assert equal(snapshot(packnet), before)
