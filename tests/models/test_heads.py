"""Output layers by the name of their task."""

from copy import deepcopy

import pytest
import torch
from torch import nn

from packnet_pl.models import Heads, TaskInfo, head_values


def heads(*tasks):
    found = Heads(4)
    for number, task in enumerate(tasks):
        found.add(task, TaskInfo(number + 2))
    return found


def test_a_head_is_a_linear_layer_for_its_classes():
    found = Heads(4)
    head = found.add("cubs", TaskInfo(3))
    assert isinstance(head, nn.Linear)
    assert head(torch.randn(5, 4)).shape == (5, 3)
    assert found["cubs"] is head
    assert found.cubs is head
    assert found.get_submodule("cubs") is head
    assert found.infos == {"cubs": TaskInfo(3)}


def test_modules_are_numbered_in_the_order_of_the_tasks():
    found = heads("cubs", "v1.5 (2018)", "weight")
    assert [found.key(task) for task in found.infos] == ["head_0", "head_1", "head_2"]
    assert sorted(found.state_dict()) == [f"head_{n}.{name}" for n in range(3) for name in ("bias", "weight")]


@pytest.mark.parametrize("name", ["a b", "v1.5", "infos", "training", "forward", "num_features", "head_1", "日本語"])
def test_any_name_is_a_key(name):
    found = heads(name, "other")
    assert found[name].out_features == 2
    assert found["other"].out_features == 3
    assert found.num_features == 4
    assert found.training is True


def test_an_unknown_task_is_refused_by_its_name():
    with pytest.raises(ValueError, match=r"task 'cars' has no head; there are \['cubs'\]: add_task\(\) makes one"):
        heads("cubs")["cars"]
    with pytest.raises(ValueError, match="task 'cars' has no head"):
        heads("cubs").key("cars")


def test_an_unknown_attribute_is_an_attribute_error():
    with pytest.raises(AttributeError, match="cars"):
        heads("cubs").cars  # noqa: B018


def test_they_can_be_copied():
    found = heads("cubs", "cars")
    copy = deepcopy(found)
    assert copy.cubs is not found.cubs
    assert torch.equal(copy["cars"].weight, found["cars"].weight)
    assert copy.infos == found.infos
    copy.add("dogs", TaskInfo(2))
    assert "dogs" not in found.infos


def test_a_task_info_comes_back_from_what_it_dumped():
    info = TaskInfo(2, ("x", "y"), (3, 224, 224), (0.5, 0.4, 0.3), (0.25, 0.2, 0.1))
    assert TaskInfo.parse(info.dump()) == info
    # As JSON brings it back: tuples are lists there.
    dumped = {key: list(value) if isinstance(value, tuple) else value for key, value in info.dump().items()}
    assert TaskInfo.parse(dumped) == info
    assert TaskInfo.parse(TaskInfo(2).dump()) == TaskInfo(2)


@pytest.mark.parametrize("num_classes", [1, 0, -1])
def test_fewer_than_two_classes_are_refused(num_classes):
    with pytest.raises(ValueError, match=f"a task has {num_classes} class(es)?; allowed is 2 or more"):
        TaskInfo(num_classes)


@pytest.mark.parametrize("names", [("x",), ("x", "y", "z")])
def test_a_wrong_number_of_class_names_is_refused(names):
    with pytest.raises(ValueError, match=rf"{len(names)} class names? given for 2 classes"):
        TaskInfo(2, names)


# --- the classifier that pretrained weights came with -----------------------------------------------------------------


def backbone_with(classes=4, features=3):
    backbone = nn.Linear(2, features)
    backbone.num_features = features
    backbone.pretrained_head = {"weight": torch.randn(classes, features), "bias": torch.randn(classes)}
    return backbone


def test_a_head_begins_with_the_given_values():
    heads, values = Heads(3), backbone_with().pretrained_head
    head = heads.add("a", TaskInfo(4), values)
    assert torch.equal(head.weight, values["weight"])
    assert torch.equal(head.bias, values["bias"])
    assert head.weight.requires_grad
    assert head.weight.data_ptr() != values["weight"].data_ptr()


def test_values_are_asked_for_by_name():
    backbone = backbone_with()
    assert head_values("new", backbone, 7) is None
    assert head_values("pretrained", backbone, 4) is backbone.pretrained_head
    with pytest.raises(ValueError, match="head is 'old'; allowed are 'new' and 'pretrained'"):
        head_values("old", backbone, 4)
    with pytest.raises(
        ValueError, match=r"the pretrained classifier has 4 classes, and the task has 7; use head='new'"
    ):
        head_values("pretrained", backbone, 7)
    with pytest.raises(ValueError, match=r"this Linear came with no classifier: give it pretrained weights"):
        head_values("pretrained", nn.Linear(2, 3), 4)
    backbone.pretrained_head = None
    with pytest.raises(ValueError, match="came with no classifier"):
        head_values("pretrained", backbone, 4)
