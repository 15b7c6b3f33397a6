"""What a task computes with, written into a copy of the module."""

import pickle
from copy import deepcopy

import pytest
import torch
from torch import nn

from packnet_pl.core import PackNet
from packnet_pl.core.bits import same_bits
from packnet_pl.packed.task_copy import TaskCopy


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


@pytest.mark.parametrize("keeps", [False, True])
def test_a_copy_is_bit_for_bit_what_the_subnetwork_is(packnet, keeps):
    before = {name: value.clone() for name, value in packnet.module.state_dict().items()}
    copy = TaskCopy(packnet)
    for task in ("a", "b", "c", "b", "a", "c", "a", "a"):
        if not keeps:
            copy = TaskCopy(packnet)
        found = copy.show(task).state_dict()
        assert copy.task == task
        for name, value in shown(packnet, task).items():
            assert same_bits(found[name], value), (task, name)
    assert all(same_bits(value, before[name]) for name, value in packnet.module.state_dict().items())


def test_with_a_task_in_training_a_copy_of_the_last_finished_one_has_none_of_its_weights(packnet):
    expected, copy = shown(packnet, "c"), TaskCopy(packnet)
    copy.show("c")
    packnet.begin_task("d")
    for _ in range(2):
        with torch.no_grad():
            for parameter in packnet.module.parameters():
                parameter.add_(1)
        for one in (copy, TaskCopy(packnet)):
            found = one.show("c").state_dict()
            assert all(same_bits(found[name], value) for name, value in expected.items())


def test_requires_grad_is_copied_too_as_it_is_when_no_gradients_are_stopped(packnet):
    packnet.module[0].bias.requires_grad_(False)
    wanted = [p.requires_grad for p in packnet.module.parameters()]
    copy = TaskCopy(packnet)
    for _ in range(2):
        assert [p.requires_grad for p in copy.show("a").parameters()] == wanted
        packnet.requires_grad.turn_off(packnet.module.parameters())
        assert [p.requires_grad for p in packnet.module.parameters()] != wanted
    packnet.requires_grad.restore()


@pytest.mark.parametrize("which", ["module", "copy"])
def test_the_memory_of_what_was_shown_is_not_given_to_others_before_it_is_looked_at_again(which):
    """Or weights that are converted there and back could lie where they lay, and nobody would see that they changed."""
    module = nn.Linear(3000, 3000)
    packnet = PackNet(module)
    packnet.begin_task("a")
    packnet.prune(0.5)
    packnet.finish_task()
    copy = TaskCopy(packnet)
    converted = {"module": module, "copy": copy.show("a")}[which]
    places = [parameter.data_ptr() for parameter in converted.parameters()]
    converted.half()
    others = [torch.empty(3000, 3000) for _ in range(8)] + [torch.empty(3000) for _ in range(200)]
    assert not {other.data_ptr() for other in others} & set(places)
    converted.float()
    for name, value in shown(packnet, "a").items():
        assert same_bits(copy.show("a").state_dict()[name], value)


def test_owners_that_were_loaded_show_in_the_next_answer(packnet):
    copy, state = TaskCopy(packnet), deepcopy(packnet.state_dict())
    before = copy.show("a").state_dict()["0.weight"].clone()
    for owner in state["owners"].values():
        owner[owner == 2] = 1
    packnet.load_state_dict(state)
    found = copy.show("a").state_dict()
    assert not same_bits(found["0.weight"], before)
    assert all(same_bits(found[name], value) for name, value in shown(packnet, "a").items())


def test_norms_of_its_own_that_were_loaded_show_in_the_next_answer(packnet):
    copy, state = TaskCopy(packnet), packnet.state_dict()
    before = copy.show("a").state_dict()["1.weight"].clone()
    state["copies"]["a"]["1.weight"] = before + 1
    packnet.load_state_dict(state)
    assert same_bits(copy.show("a").state_dict()["1.weight"], before + 1)


def test_it_is_copied_and_saved_without_the_weights_that_it_shows(packnet):
    copy = TaskCopy(packnet)
    empty = len(pickle.dumps(copy))
    copy.show("b")
    assert len(pickle.dumps(copy)) == empty
    for other in (deepcopy(copy), pickle.loads(pickle.dumps(copy))):
        assert other.show("b") is not copy.show("b")
        for task in ("b", "a"):
            found = other.show(task).state_dict()
            assert all(same_bits(found[name], value) for name, value in shown(packnet, task).items())


def test_free_weights_that_are_not_zero_are_hidden(packnet):
    copy = TaskCopy(packnet)
    copy.show("a")
    with torch.no_grad():
        packnet.module[0].weight[packnet.owners["0.weight"] == 0] = -1
    for task in ("c", "a", "b"):
        found = copy.show(task).state_dict()
        assert all(same_bits(found[name], value) for name, value in shown(packnet, task).items())


def test_unknown_and_open_tasks_and_a_copy_inside_a_view_are_refused(packnet):
    copy = TaskCopy(packnet)
    with pytest.raises(ValueError, match="task 'x' is unknown"):
        copy.show("x")
    packnet.begin_task("d")
    with pytest.raises(ValueError, match="task 'd' is still open"):
        copy.show("d")
    packnet.abort_task()
    with packnet.subnetwork("a"), pytest.raises(RuntimeError, match=r"inside subnetwork\('a'\)"):
        copy.show("a")


def test_no_copy_is_shown_to_code_that_was_compiled_with_freezing(packnet):
    pytest.importorskip("torch._inductor.config")
    packnet.module[0].compile(options={"freezing": True})
    with pytest.raises(RuntimeError, match=r"^0 is compiled"):
        TaskCopy(packnet).show("a")
