"""Modules of single tasks: remembered, and looked at by fingerprint."""

import pytest
import torch
from torch import nn

from packnet_pl.core import PackNet
from tests.support.packnet_states import fresh
from tests.support.tiny import (
    TinyNet,
    equal,
    snapshot,
)


def test_private_modules_are_remembered_until_their_task_is_aborted():
    packnet = fresh()
    packnet.begin_task("a", private=["heads.a", "norms.a"])
    packnet.prune(0.5)
    packnet.finish_task()
    packnet.begin_task("b", private=("heads.b",))
    assert packnet.private == {"a": ["heads.a", "norms.a"], "b": ["heads.b"]}
    packnet.abort_task()
    assert packnet.private == {"a": ["heads.a", "norms.a"]}


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
    before = snapshot(packnet)
    for call in (packnet.verify, packnet.state_dict, lambda root: packnet.begin_task("c", root=root)):
        with pytest.raises(RuntimeError, match=rf"^{name} is not what it was when task '{task}' was finished"):
            call(root)
    assert equal(snapshot(packnet), before)
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
