import torch
from torch import nn

from packnet_pl.core import PackNet, Share
from tests.support.tiny import TinyNet, pack


def test_counts_follow_the_life_of_the_tasks():
    packnet = PackNet(nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2)))
    assert packnet.summary().total == Share(24, {}, 24)
    packnet.begin_task("a")
    assert packnet.summary().total == Share(24, {"a": 24}, 0)
    packnet.prune(0.75)
    packnet.finish_task()
    packnet.begin_task("b")
    packnet.prune(0.5)
    summary = packnet.summary()
    assert summary.total == Share(24, {"a": 6, "b": 9}, 9)
    assert summary.layers == {"0.weight": Share(16, {"a": 4, "b": 6}, 6), "1.weight": Share(8, {"a": 2, "b": 3}, 3)}
    assert summary.total.fraction("a") == 0.25
    assert summary.total.free_fraction == 0.375


def test_a_network_without_prunable_weights_has_no_fractions_to_divide():
    share = PackNet(nn.LayerNorm(2)).summary().total
    assert share == Share(0, {}, 0)
    assert share.free_fraction == 0.0
    assert Share(0, {"a": 0}, 0).fraction("a") == 0.0


def test_the_printed_summary_has_a_row_for_each_layer_and_the_total():
    packnet = PackNet(TinyNet())
    pack(packnet, "cubs", ratio=0.75)
    lines = str(packnet.summary()).splitlines()
    assert lines[0].split() == ["layer", "weights", "cubs", "free"]
    assert lines[1].split() == ["conv.weight", "36", "25.00%", "75.00%"]
    assert lines[2].split() == ["fc.weight", "96", "25.00%", "75.00%"]
    assert lines[3].split() == ["total", "132", "25.00%", "75.00%"]
    assert lines[4] == "usable by later tasks: 88.00% of all 150 parameters"
    assert lines[5] == "frozen after the first task: 7 tensors"


def test_the_summary_says_what_each_task_has_for_itself():
    packnet = PackNet(TinyNet(), norm="per_task")
    pack(packnet, "cubs")
    summary = packnet.summary()
    assert summary.owned == ("conv.weight", "fc.weight")
    assert summary.frozen == ("conv.bias", "fc.bias")
    assert summary.per_task == tuple(
        f"bn.{key}" for key in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    )
    assert str(summary).splitlines()[4:] == [
        "usable by later tasks: 93.33% of all 150 parameters",
        "frozen after the first task: 2 tensors",
        "of its own for each task: 5 tensors",
    ]
    assert "of its own" not in str(PackNet(TinyNet()).summary())


def test_a_summary_does_not_change_the_network():
    net = TinyNet()
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    PackNet(net).summary()
    assert all(torch.equal(tensor, before[name]) for name, tensor in net.state_dict().items())


def test_the_repr_says_tasks_shares_and_phase():
    packnet = PackNet(TinyNet())
    assert repr(packnet) == "PackNet(TinyNet, 132 weights: free 100.00%)"
    packnet.begin_task("cats")
    packnet.prune(0.5)
    packnet.finish_task()
    packnet.begin_task("cars")
    assert repr(packnet) == "PackNet(TinyNet, 132 weights: 'cats' 50.00%, 'cars' (open, train) 50.00%, free 0.00%)"
    packnet.prune(0.75)
    with packnet.subnetwork("cats"):
        assert "'cars' (open, retrain) 12.12%, free 37.88%" in repr(packnet)
    del packnet.module.fc
    assert repr(packnet).startswith("PackNet(TinyNet, tasks=['cats', 'cars']: the module's prunable parameters changed")
