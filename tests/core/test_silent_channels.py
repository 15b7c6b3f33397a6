"""Channels that the first task left without variance are named before a later task sends something through them."""

import warnings

import pytest
import torch
from torch import nn

from packnet_pl import PackNet

pytestmark = pytest.mark.filterwarnings("ignore:task 'b' and later ones cannot change")


def finished_first_task(norm="shared", silent=True, *, affine=True):
    """A network whose first filter has only weights that were pruned, so that its channel is always 0."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3, bias=False), nn.BatchNorm2d(4, affine=affine), nn.ReLU())
    if silent:
        with torch.no_grad():
            net[0].weight[0] *= 1e-6  # the smallest: a ratio of 0.25 takes them all
    packnet = PackNet(net, norm=norm)
    packnet.begin_task("a")
    packnet.prune(0.25)
    for _ in range(400):
        net(torch.randn(2, 1, 6, 6))
    net.eval()
    packnet.finish_task()
    return packnet


def messages(packnet):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        packnet.begin_task("b")
    return [str(warning.message) for warning in found if "hardly varied" in str(warning.message)], found


@pytest.mark.parametrize("affine", [True, False])
def test_they_are_counted_with_what_they_are_multiplied_by(affine):
    packnet = finished_first_task(affine=affine)
    (message,), found = messages(packnet)
    assert "1 of the 4 channels of 1 hardly varied in the first task" in message
    assert "comes out up to 316 times as large" in message  # 1 / sqrt(0 + 1e-5)
    assert [warning.filename for warning in found if "hardly" in str(warning.message)] == [__file__]


def test_a_second_task_is_really_amplified_so():
    packnet = finished_first_task()
    net, image = packnet.module, torch.ones(1, 1, 3, 3)
    packnet.begin_task("b")
    with torch.no_grad():
        net[0].weight[0].fill_(1 / 9)
    assert net(image)[0, 0].item() == pytest.approx(316.2, rel=1e-3)


@pytest.mark.parametrize(("norm", "silent"), [("per_task", True), ("shared", False)])
def test_nothing_is_said_where_nothing_is_amplified(norm, silent):
    assert messages(finished_first_task(norm, silent))[0] == []


def test_it_is_said_once():
    packnet = finished_first_task()
    assert messages(packnet)[0]
    packnet.prune(0.5)
    packnet.finish_task()
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        packnet.begin_task("c")
    assert not [warning for warning in found if "hardly" in str(warning.message)]
