import copy

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from packnet_pl.core import PackNet
from tests.support.reference import Reference
from tests.support.tiny import same_bits

# Powers of two: see reference.py.
SGD = {"lr": 2**-4, "momentum": 2**-1, "weight_decay": 2**-7}


class Toy(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)
        self.bn = nn.BatchNorm2d(3)
        self.fc = nn.Linear(12, 4)

    def forward(self, x):
        return self.fc(torch.tanh(self.bn(self.conv(x))).flatten(1))


def fit(packnet, batches):
    optimizer = torch.optim.SGD(packnet.module.parameters(), **SGD)
    packnet.module.train()
    for x, y in batches:
        optimizer.zero_grad()
        F.cross_entropy(packnet.module(x), y).backward()
        packnet.mask_gradients_()
        optimizer.step()
        packnet.restore_()


def assert_same(packnet, reference, when):
    for name, owners in packnet.owners.items():
        assert owners.reshape(-1).tolist() == reference.owners[name], f"owners of {name} {when}"
    for name, parameter in packnet.module.named_parameters():
        expected = torch.tensor(reference.values[name]).reshape(parameter.shape)
        assert torch.equal(parameter, expected), f"{name} {when}"
    for name, buffer in packnet.module.named_buffers():
        assert same_bits(buffer, reference.net.get_buffer(name)), f"{name} {when}"


@pytest.mark.parametrize("granularity", ["weight", "filter"])
@pytest.mark.parametrize("ratios", [(0.5, 0.75, 0.75), (0.3, 0.9, 0.0)])
def test_three_tasks_match_the_reference_exactly(ratios, granularity):
    net = Toy()
    reference = Reference(copy.deepcopy(net), prunable=["conv.weight", "fc.weight"], norms=["bn"])
    packnet = PackNet(net)
    for number, ratio in enumerate(ratios, start=1):
        batches = [(torch.randn(8, 1, 4, 4) + number, torch.randint(0, 4, (8,))) for _ in range(4)]
        packnet.begin_task(f"task{number}")
        reference.begin()
        before = {name: list(values) for name, values in reference.values.items()}
        fit(packnet, batches)
        reference.fit(batches, F.cross_entropy, **SGD)
        assert reference.values["fc.weight"] != before["fc.weight"]
        assert_same(packnet, reference, f"before prune of task {number}")
        packnet.prune(ratio, granularity=granularity)
        (reference.prune if granularity == "weight" else reference.prune_filters)(ratio)
        assert_same(packnet, reference, f"after prune of task {number}")
        fit(packnet, batches)
        reference.fit(batches, F.cross_entropy, **SGD)
        packnet.finish_task()
        assert_same(packnet, reference, f"after finish of task {number}")

    x = torch.randn(5, 1, 4, 4)
    net.eval()
    for number, task in enumerate(packnet.tasks, start=1):
        with packnet.subnetwork(task), torch.no_grad():
            assert torch.equal(net(x), reference.answer(x, number)), task
