"""Buffers that layers change in a later task are put back."""

import math

import pytest
import torch

from packnet_pl.core import PackNet
from tests.support.packnet_states import WITHOUT_WARNINGS, told
from tests.support.tiny import (
    RunningCentre,
    TinyNet,
    equal,
    images,
    pack,
    same_bits,
    tensors,
    train,
)


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


@pytest.mark.parametrize("end", ["prune", "finish_task", "abort_task"])
def test_a_buffer_that_a_layer_took_away_before_a_task_ends_is_there_again(end):
    packnet = PackNet(Centred())
    told(pack, packnet, "a")
    mean = packnet.module.centre.mean.clone()
    packnet.begin_task("b")
    packnet.module.centre.mean = None
    told(getattr(packnet, end), *([0.5] if end == "prune" else []))
    assert same_bits(packnet.module.centre.mean, mean)
    packnet.verify()


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
    assert told(packnet.freezer.restore_buffers_) == ["centre.mean", "count"]
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
