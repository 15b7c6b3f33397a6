"""Modules that belong to single tasks."""

import copy

import pytest
import torch
from torch import nn

from packnet_pl import PackNet
from packnet_pl.core.module_modes import EvalMode
from packnet_pl.training.private_modules import (
    check_private_names,
    frozen_parameters,
    private_freezer,
    private_parameters,
    private_statistics,
)
from tests.support.fits import SmallNet, images, own_head, same, tensors


class Root(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = SmallNet()
        self.heads = nn.ModuleDict({task: own_head() for task in "abc"})


def with_tasks(private=lambda task: [f"heads.{task}"], root=None, finished="ab"):
    """Finished tasks, and an open one, each with its private modules."""
    root = root or Root()
    packnet = PackNet(root.backbone)
    for task in finished:
        packnet.begin_task(task, private=private(task), root=root)
        packnet.prune(0.5)
        packnet.finish_task(root)
    packnet.begin_task("c", private=private("c"), root=root)
    return packnet, root


def move(module):
    """Moves all parameters and buffers, and gives each parameter a gradient."""
    with torch.no_grad():
        for tensor in [*module.parameters(), *module.buffers()]:
            tensor.add_(1)
    for parameter in module.parameters():
        parameter.grad = torch.ones_like(parameter)


def test_finished_tasks_modules_are_frozen_and_the_open_one_s_moves():
    packnet, root = with_tasks()
    freezer, before = private_freezer(packnet, root), {task: tensors(root.heads[task]) for task in "abc"}
    move(root.heads)
    freezer.mask_gradients_()
    freezer.restore_()
    for task in "ab":
        assert same(tensors(root.heads[task]), before[task])
        assert not any(parameter.grad.any() for parameter in root.heads[task].parameters())
    assert not any(torch.equal(value, before["c"][name]) for name, value in tensors(root.heads["c"]).items())
    assert all(parameter.grad.all() for parameter in root.heads["c"].parameters())


def test_buffers_that_no_file_knows_are_frozen_too():
    root = Root()
    root.heads["a"].register_buffer("scratch", torch.zeros(2), persistent=False)
    packnet, root = with_tasks(root=root)
    freezer = private_freezer(packnet, root)
    root.heads["a"].scratch.add_(1)
    freezer.restore_()
    assert root.heads["a"].scratch.tolist() == [0, 0]


def test_only_what_was_stepped_or_written_is_written_to():
    packnet, root = with_tasks()
    freezer, before = private_freezer(packnet, root), tensors(root.heads)
    names = [name for name, _ in root.heads.named_parameters()]
    versions = {name: root.heads.get_parameter(name)._version for name in names}
    freezer.restore_([root.heads["a"][0].weight])
    assert [name for name in names if root.heads.get_parameter(name)._version != versions[name]] == ["a.0.weight"]
    with torch.no_grad():
        root.heads["b"][3].bias.add_(1)
    freezer.restore_([root.heads["a"][0].weight])
    assert same(tensors(root.heads), before)


def test_layers_whose_statistics_a_later_task_would_move_are_those_of_finished_tasks():
    packnet, root = with_tasks()
    before, modes = tensors(root.heads), EvalMode()
    modes.keep(private_statistics(packnet, root))

    def run():
        root.train()
        for head in root.heads.values():
            head(root.backbone(images()))
        return {
            name.split(".")[0] for name, value in tensors(root.heads).items() if not torch.equal(value, before[name])
        }

    assert run() == {"c"}
    modes.end()
    assert run() == {"a", "b", "c"}
    assert not any(layer._forward_pre_hooks for layer in root.heads.modules())
    modes.end()


def test_a_module_that_another_one_replaced_is_found_at_the_end_of_a_fit():
    packnet, root = with_tasks()
    freezer, before = private_freezer(packnet, root), tensors(root.heads)
    root.heads["a"] = copy.deepcopy(root.heads["a"])
    root.heads["b"][0] = nn.Linear(6, 5)
    move(root.heads["a"])
    freezer.restore_all_()
    assert same(tensors(root.heads), before)
    # From then on they are the ones that are frozen.
    move(root.heads["a"])
    freezer.restore_()
    assert same(tensors(root.heads), before)


def test_a_module_that_was_removed_is_left_out_and_the_others_keep_what_is_theirs():
    packnet, root = with_tasks()
    freezer = private_freezer(packnet, root)
    del root.heads["a"]
    before = tensors(root.heads)
    move(root.heads["b"])
    freezer.mask_gradients_()
    freezer.restore_all_()
    assert same(tensors(root.heads), before)


def test_a_root_without_the_modules_of_finished_tasks_freezes_nothing():
    packnet, root = with_tasks()
    other = nn.Module()
    other.backbone = root.backbone
    freezer = private_freezer(packnet, other)
    assert private_parameters(packnet, other) == []
    for call in (freezer.mask_gradients_, freezer.restore_, freezer.restore_all_):
        call()


def test_what_the_shared_module_has_as_well_is_not_frozen():
    root = Root()
    root.heads["a"].append(root.backbone.fc)
    packnet, root = with_tasks(root=root)
    freezer = private_freezer(packnet, root)
    mine = packnet.owners["fc.weight"] == 3
    assert mine.any()
    with torch.no_grad():
        root.backbone.fc.weight.add_(1)
    before = tensors(root.backbone)
    freezer.restore_()
    freezer.restore_all_()
    assert same(tensors(root.backbone), before)
    assert id(root.backbone.fc.weight) not in {id(parameter) for parameter in private_parameters(packnet, root)}


def test_a_task_may_have_several_modules_and_a_bare_layer():
    root = Root()
    root.scale = nn.PReLU()
    packnet, root = with_tasks(lambda task: [f"heads.{task}", "scale"] if task == "a" else [], root)
    freezer, before = private_freezer(packnet, root), tensors(root)
    move(root.scale)
    move(root.heads["a"])
    freezer.restore_()
    assert same(tensors(root), before)
    expected = [*root.heads["a"].parameters(), root.scale.weight]
    assert [id(parameter) for parameter in private_parameters(packnet, root)] == [id(p) for p in expected]


@pytest.mark.parametrize("finished", ["", "a", "ab"])
def test_private_parameters_are_those_of_finished_tasks(finished):
    packnet, root = with_tasks(finished=finished)
    expected = [id(parameter) for task in finished for parameter in root.heads[task].parameters()]
    assert [id(parameter) for parameter in private_parameters(packnet, root)] == expected


def test_a_conversion_is_refused_with_the_name_of_the_module():
    packnet, root = with_tasks()
    freezer = private_freezer(packnet, root)
    root.heads["b"].double()
    with pytest.raises(RuntimeError, match=r"^heads\.b\.0\.weight was torch\.float32"):
        freezer.restore_()


def test_names_of_modules_are_returned_as_a_list():
    root = Root()
    packnet = PackNet(root.backbone)
    assert check_private_names(packnet, root, ("heads.a", "heads.b.0")) == ["heads.a", "heads.b.0"]
    assert check_private_names(packnet, root, []) == []


@pytest.mark.parametrize("name", ["heads.a", "heads.a.0", "heads"])
def test_modules_of_finished_tasks_are_refused_because_they_do_not_train_any_more(name):
    packnet, root = with_tasks()
    with pytest.raises(
        ValueError, match=rf"private='{name}' is, or overlaps with, \['heads\.a'\] of the finished task 'a'"
    ):
        check_private_names(packnet, root, [name])


def test_a_module_whose_name_begins_like_another_one_is_another_one():
    root = Root()
    root.heads["ab"] = own_head()
    packnet, root = with_tasks(root=root)
    assert check_private_names(packnet, root, ["heads.ab", "heads.c"]) == ["heads.ab", "heads.c"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("", r"private='' is all, with the shared module"),
        ("heads.z", r"private='heads\.z': Root has no such module \(.*z.*\)"),
        ("heads.a.9", r"private='heads\.a\.9': Root has no such module"),
        ("backbone.fc.weight", r"private='backbone\.fc\.weight': Root has no such module"),
        (
            "backbone",
            r"private='backbone' lies inside the shared module \(SmallNet\).*only the part that all tasks share",
        ),
        ("backbone.bn", r"private='backbone\.bn' lies inside the shared module"),
        ("again", r"private='again' lies inside the shared module"),
    ],
)
def test_modules_that_are_not_there_or_shared_are_refused_by_name(name, message):
    root = Root()
    root.again = root.backbone.conv
    with pytest.raises(ValueError, match=message):
        check_private_names(PackNet(root.backbone), root, ["heads.a", name])


def test_the_head_of_a_finished_task_under_another_name_is_refused():
    root = Root()
    root.heads["c"] = root.heads["a"]
    packnet, root = with_tasks(root=root, finished="ab")
    with pytest.raises(ValueError, match=r"^private='heads\.c' is, or overlaps with, \['heads\.a'\] of the finished"):
        check_private_names(packnet, root, ["heads.c"])
    root.heads["c"] = nn.Sequential(root.heads["a"][0], nn.Linear(5, 3))
    assert check_private_names(packnet, root, ["heads.c"]) == ["heads.c"]


def test_a_module_that_has_a_name_before_is_frozen_under_the_name_that_was_given():
    root = Root()
    root._modules = {"first": root.heads["a"], **root._modules}
    packnet, root = with_tasks(root=root)
    freezer, before = private_freezer(packnet, root), tensors(root.heads["a"])
    move(root.heads["a"])
    freezer.restore_()
    assert same(tensors(root.heads["a"]), before)
    with torch.no_grad():
        root.heads["a"][0].weight.add_(1)
    with pytest.raises(RuntimeError, match=r"^heads\.a\.0\.weight is not what it was"):
        packnet.verify(root)


def test_frozen_parameters_are_those_that_no_later_task_changes():
    packnet = PackNet(SmallNet())
    net = packnet.module
    assert frozen_parameters(packnet) == []
    packnet.begin_task("a")
    assert frozen_parameters(packnet) == []
    packnet.finish_task()
    weights = {id(net.get_parameter(name)) for name in packnet.owners}
    expected = [id(parameter) for parameter in net.parameters() if id(parameter) not in weights]
    assert expected
    assert [id(parameter) for parameter in frozen_parameters(packnet)] == expected


@pytest.mark.parametrize(
    "keeping", [{"norm": "per_task"}, {"bias": "per_task"}, {"norm": "per_task", "bias": "per_task"}]
)
def test_what_each_task_has_for_itself_is_not_frozen(keeping):
    packnet = PackNet(SmallNet(), **keeping)
    packnet.begin_task("a")
    packnet.finish_task()
    own = set(packnet.summary().per_task)
    assert own
    found = {id(parameter) for parameter in frozen_parameters(packnet)}
    weights = packnet.owners
    for name, parameter in packnet.module.named_parameters():
        assert (id(parameter) in found) == (name not in own and name not in weights), name
