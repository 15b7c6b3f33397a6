"""PackNet from a Lightning checkpoint."""

import pytest
import torch

from packnet_pl.core import PackNet
from tests.support.packnet_states import OWN, with_finished_task, with_pruned_task
from tests.support.tiny import (
    TinyNet,
    equal,
)


@pytest.mark.parametrize("keeping", [{}, {"norm": "per_task"}, {"bias": "per_task"}, OWN], ids=str)
def test_a_checkpoint_says_how_norms_and_biases_are_kept(tmp_path, keeping):
    packnet = with_finished_task(**keeping)
    path = tmp_path / "last.ckpt"
    torch.save({"packnet": packnet.state_dict()}, path)
    net = TinyNet()
    net.load_state_dict(packnet.module.state_dict())
    loaded = PackNet.from_checkpoint(net, path)
    loaded.verify()
    assert equal(loaded.state_dict(), packnet.state_dict())


def test_a_checkpoint_gives_packnet_back(tmp_path):
    packnet = with_pruned_task()
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": packnet.module.state_dict(), "packnet": packnet.state_dict()}, path)
    net = TinyNet()
    loaded = PackNet.from_checkpoint(net, path)
    net.load_state_dict(torch.load(path, weights_only=True)["state_dict"])
    loaded.verify()
    assert equal(loaded.state_dict(), packnet.state_dict())


def test_a_checkpoint_without_packnet_is_refused_by_path(tmp_path):
    path = tmp_path / "other.ckpt"
    torch.save({"state_dict": {}}, path)
    with pytest.raises(ValueError, match=r"other\.ckpt holds no PackNet state"):
        PackNet.from_checkpoint(TinyNet(), path)


@pytest.mark.parametrize("state", [[1], None, "a"])
def test_a_checkpoint_with_something_else_in_the_place_of_the_state_is_refused(tmp_path, state):
    torch.save({"packnet": state}, tmp_path / "other.ckpt")
    with pytest.raises(ValueError, match="PackNet state"):
        PackNet.from_checkpoint(TinyNet(), tmp_path / "other.ckpt")
