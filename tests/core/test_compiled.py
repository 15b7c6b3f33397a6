"""Code that has weights as constants is refused where it is known."""

import sys

import pytest
import torch
from torch import nn

from packnet_pl.core import PackNet
from packnet_pl.core.compiled import check_weights_are_read
from tests.support.tiny import TinyNet, images, pack

config = pytest.importorskip("torch._inductor.config")

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


def packed():
    packnet = PackNet(TinyNet())
    pack(packnet, "a")
    packnet.module.eval()
    return packnet


def in_place(layer, **options):
    layer.compile(**options)
    return layer


HOW = {
    "with the option": lambda net: torch.compile(net, options={"freezing": True}),
    "in place, with the option": lambda net: in_place(net, options={"freezing": True}),
    "a part": lambda net: nn.Sequential(nn.Flatten(), in_place(nn.Linear(36, 2), options={"freezing": True})),
}


@pytest.mark.parametrize("how", HOW)
def test_a_module_that_was_compiled_with_freezing(how):
    with pytest.raises(RuntimeError, match="is compiled with inductor's freezing: such code has weights as constants"):
        check_weights_are_read(HOW[how](nn.Linear(2, 2)))


def test_the_setting_as_it_was_when_the_module_was_compiled_counts():
    with config.patch(freezing=True):
        compiled = torch.compile(nn.Linear(2, 2))
    with pytest.raises(RuntimeError, match="compiled with inductor's freezing"):
        check_weights_are_read(compiled)


def test_no_subnetwork_is_shown_to_frozen_code_and_nothing_changes():
    packnet = packed()
    before = {name: value.clone() for name, value in packnet.module.state_dict().items()}
    packnet.module.fc.compile(options={"freezing": True})
    with pytest.raises(RuntimeError, match=r"^fc is compiled"), packnet.subnetwork("a"):
        pass
    packnet.module.fc._compiled_call_impl = None
    with packnet.subnetwork("a"):
        assert all(torch.equal(value, before[name]) for name, value in packnet.module.state_dict().items())


def test_code_around_the_module_is_refused_while_freezing_is_on():
    packnet = packed()
    torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1))
    x = images()
    expected = packnet.module(x)
    on = pytest.raises(RuntimeError, match=r"config\.freezing is on")
    with config.patch(freezing=True), on, packnet.subnetwork("a"):
        pass
    with packnet.subnetwork("a"):
        assert torch.equal(packnet.module(x), expected)


@pytest.mark.parametrize("how", ["default", "eager", "in place", "nothing compiled", "no inductor"])
def test_code_that_reads_weights_is_fine(how, monkeypatch):
    layer = nn.Sequential(nn.Linear(2, 2))
    if how == "default":
        layer = torch.compile(layer)
    if how == "eager":
        layer = torch.compile(layer, backend="eager")
    if how == "in place":
        layer.compile()
    if how == "nothing compiled":
        monkeypatch.setattr("torch._dynamo.convert_frame.FRAME_COUNTER", 0)
    if how == "no inductor":
        monkeypatch.delitem(sys.modules, "torch._inductor.config")
    with config.patch(freezing=how == "nothing compiled"):
        check_weights_are_read(layer)
