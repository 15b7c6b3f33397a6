"""What a module of a user's own tells of its tasks, and what it may leave out."""

from types import SimpleNamespace

import pytest
from torch import nn

from packnet_pl import PackNet, TaskClassifier
from packnet_pl.training.protocols import find_packnet, packnet_of, private_modules_of, selected_task_of


def test_a_module_may_leave_out_all_but_its_packnet():
    module = SimpleNamespace(packnet=PackNet(nn.Linear(2, 2)))
    assert packnet_of(module) is module.packnet
    assert private_modules_of(module, "a") == []
    assert selected_task_of(module, "a") == "a"


def test_a_task_classifier_tells_everything():
    model = TaskClassifier(nn.Linear(2, 2), num_features=2)
    assert selected_task_of(model, "a") is None
    model.add_task("b", num_classes=3)
    assert packnet_of(model) is model.packnet
    assert private_modules_of(model, "b") == ["heads.head_0"]
    assert selected_task_of(model, "a") == "b"


@pytest.mark.parametrize("packnet", [None, "packnet", nn.Linear(2, 2)])
def test_what_is_no_packnet_is_refused_with_the_line_to_add(packnet):
    module = SimpleNamespace(packnet=packnet)
    assert find_packnet(module) is None
    with pytest.raises(ValueError, match=r"has no PackNet \(its attribute packnet is .*: self\.packnet = PackNet\("):
        packnet_of(module)
