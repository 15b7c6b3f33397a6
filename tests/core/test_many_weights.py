"""The whole life of tasks by compiled loops is, to the bit, that by plain torch; each way reads the other's state."""

import copy
from typing import Any

import pytest
import torch
from torch import nn

from packnet_pl.core import PackNet, PruneRule, loops, ranking

OPTIMIZERS = {
    "momentum": lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9),
    "decay": lambda parameters: torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1),
}
RULES = {
    "layer": PruneRule(),
    "global": PruneRule(scope="global"),
    "own score": PruneRule(score=lambda weight: weight.sin()),
    "filters": PruneRule(granularity="filter"),
}


class Network(nn.Sequential):
    """A convolution in another memory layout, a norm, and a layer that is large enough to be proved about."""

    def __init__(self, dtype: torch.dtype) -> None:
        torch.manual_seed(0)
        super().__init__(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 36, 300, bias=False))
        self.to(dtype, memory_format=torch.channels_last)


def outcomes(optimizer: str, rule: str, dtype: torch.dtype) -> list[Any]:
    """Returns weights and states after each step of two tasks' lives, and a third one's that is given up."""
    network, found = Network(dtype), []
    packnet = PackNet(network)

    def note() -> None:
        state = packnet.state_dict()
        found.append((copy.deepcopy(network.state_dict()), state, packnet.summary().total))

    def train() -> None:
        stepped = OPTIMIZERS[optimizer](network.parameters())
        for _ in range(2):
            stepped.zero_grad()
            network(torch.randn(4, 3, 8, 8, dtype=dtype)).square().mean().backward()
            packnet.mask_gradients_()
            stepped.step()
            packnet.restore_()

    for task in ("a", "b"):
        packnet.begin_task(task)
        train()
        packnet.prune(0.6, rule=RULES[rule])
        note()
        train()
        packnet.finish_task()
        note()
    with packnet.subnetwork("a"):
        found.append(copy.deepcopy(network.state_dict()))
    packnet.begin_task("c")
    packnet.abort_task()
    note()
    return found


def assert_equal(left: Any, right: Any) -> None:
    if isinstance(left, torch.Tensor):
        assert left.dtype == right.dtype
        assert left.stride() == right.stride()
        assert torch.equal(left, right)
    elif isinstance(left, dict):
        assert left.keys() == right.keys()
        for key in left:
            assert_equal(left[key], right[key])
    elif isinstance(left, (list, tuple)):
        assert len(left) == len(right)
        for one, other in zip(left, right, strict=True):
            assert_equal(one, other)
    else:
        assert left == right


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_compiled_loops_do_what_plain_torch_does(optimizer, rule, dtype, monkeypatch):
    monkeypatch.setattr(loops, "MANY", 1 << 62)
    plain = outcomes(optimizer, rule, dtype)
    monkeypatch.setattr(loops, "MANY", 0)
    assert_equal(outcomes(optimizer, rule, dtype), plain)
    network = Network(dtype)
    network.load_state_dict(plain[-1][0])
    PackNet.from_state(network, plain[-1][1]).verify()


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_compiled_loops_work_on_the_cpu_where_new_tensors_are_made_elsewhere(scope, monkeypatch):
    monkeypatch.setattr(loops, "MANY", 0)
    monkeypatch.setattr(ranking, "_FEW", 0)
    network = nn.Sequential(nn.Linear(64, 80), nn.Linear(80, 64))
    packnet, x = PackNet(network), torch.randn(4, 64)
    with torch.device("meta"):
        for task in ("a", "b"):
            packnet.begin_task(task)
            optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
            network(x).square().mean().backward()
            packnet.mask_gradients_()
            optimizer.step()
            packnet.restore_()
            packnet.prune(0.5, scope=scope)
            packnet.finish_task()
        packnet.verify()
