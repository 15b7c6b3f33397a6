"""Networks that are refused, left out in parts, or changed after the first task."""

import pytest
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, distribute_tensor
from torch.testing._internal.two_tensor import TwoTensor

from packnet_pl import CapacityError, PackNet
from tests.support.promise.checker import Promise, check_promise
from tests.support.promise.own_modules import fit_phase, trainer
from tests.support.promise.user_modules import (
    UserModule,
    subject_of,
    tokens,
    vectors,
)
from tests.support.promise.user_networks import NETWORKS, VOCABULARY, plain

pytestmark = [
    pytest.mark.promise("Modules"),
    *map(
        pytest.mark.filterwarnings,
        (
            "ignore:.*nested tensors is in prototype stage",
            "ignore:.*not supported with oneDNN",
            "ignore:.*is deprecated",
            "ignore:.*quant",
            "ignore:.*pin_memory",
        ),
    ),
]


class Distributed:
    """A process group of this process alone."""

    def __enter__(self):
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        return init_device_mesh("cpu", (1,))

    def __exit__(self, *_):
        dist.destroy_process_group()


def _linear(weight):
    layer = nn.Linear(8, 8)
    layer.weight = weight
    return layer


def _sharded():
    with Distributed() as mesh:
        return _linear(nn.Parameter(distribute_tensor(torch.randn(8, 8), mesh, [Replicate()])))


def _quantized():
    layer = nn.Linear(8, 8)
    layer.register_buffer("codes", torch.quantize_per_tensor(torch.randn(8), 0.1, 0, torch.qint8))
    return layer


REFUSED = {
    "a complex weight": lambda: nn.Linear(8, 8, dtype=torch.complex64),
    "an integer weight": lambda: _linear(nn.Parameter(torch.ones(8, 8, dtype=torch.int8), requires_grad=False)),
    "a sparse weight": lambda: _linear(nn.Parameter(torch.eye(8).to_sparse())),
    "a lazy layer": lambda: nn.LazyLinear(8),
    "a lazy norm": lambda: nn.LazyBatchNorm1d(),
    "a tensor subclass": lambda: _linear(nn.Parameter(TwoTensor(torch.randn(8, 8), torch.randn(8, 8)))),
    "a DTensor that is not divided by rows": _sharded,
    "a quantized buffer": _quantized,
    "a weight on the meta device": lambda: nn.Linear(8, 8, device="meta"),
    "a norm on the meta device": lambda: nn.BatchNorm1d(8, device="meta"),
}


@pytest.mark.promise("Modules", status="refused")
@pytest.mark.filterwarnings("ignore:.*Lazy modules")
@pytest.mark.parametrize("what", REFUSED)
def test_refused_by_name(what):
    net = nn.Sequential(nn.Linear(8, 8), REFUSED[what](), nn.Linear(8, 8))
    packnet = PackNet(net)
    with pytest.raises(ValueError, match=r"\b1\b") as refused:
        packnet.begin_task("a")
    assert "refused" in str(refused.value)
    assert (packnet.tasks, packnet.open_task) == ([], None)


WITHOUT = {
    "no prunable weight": lambda: nn.Sequential(nn.Embedding(20, 8), nn.LayerNorm(8)),
    "no weight at all": lambda: nn.Sequential(nn.Tanh(), nn.Flatten()),
}


@pytest.mark.promise("Modules", status="refused")
@pytest.mark.parametrize("what", WITHOUT)
def test_nothing_to_divide(what):
    packnet = PackNet(WITHOUT[what]())
    with pytest.raises(CapacityError, match="no weights to divide"):
        packnet.begin_task("a")
    assert packnet.open_task is None


class Grows(UserModule):
    def __init__(self):
        super().__init__(nn.Sequential(nn.Embedding(VOCABULARY, 8), Mean(), nn.Linear(8, 8)), 8)


class Mean(nn.Module):
    def forward(self, x):
        return x.mean(1)


def _more_words(net):
    wider = nn.Embedding(VOCABULARY + 5, 8)
    wider.weight.data[:VOCABULARY] = net[0].weight.data
    net[0] = wider


CHANGES = {
    "an embedding with more rows": (_more_words, "0.weight"),
    "a layer more": (lambda net: net.append(nn.Linear(8, 8)), "3.weight"),
    "a layer less": (lambda net: net.pop(2), "2.weight"),
    "another layer": (lambda net: net.__setitem__(2, nn.Linear(8, 8)), "2.weight"),
    "a wider layer": (lambda net: net.__setitem__(2, nn.Linear(8, 16)), "2.weight"),
    "a parametrization more": (lambda net: nn.utils.parametrizations.weight_norm(net[2]), "2.weight"),
}


@pytest.mark.promise("Modules", status="noticed", label="after the first task")
@pytest.mark.parametrize("change", CHANGES)
def test_a_network_that_changes_after_the_first_task(change):
    module = Grows()
    used = subject_of(module, tokens(6, VOCABULARY))
    Promise(used, change).fit("a", trainer=trainer())
    act, name = CHANGES[change]
    act(module.backbone)
    with pytest.raises(RuntimeError, match=name):
        fit_phase(module, "b", data=used.data("b"))
    assert module.packnet.open_task is None


@pytest.mark.promise("Modules", label="prunable= leaves layers out: they stand still after the first task")
def test_layers_left_out():
    def prunable(name, layer, parameter):
        return name in ("0.weight", "4.weight")

    module = UserModule(plain(), 8, prunable=prunable)
    check_promise(subject_of(module, vectors()), "prunable", trainer=trainer())
    assert list(module.packnet.owners) == ["0.weight", "4.weight"]


@pytest.mark.promise("Modules", label="prunable='paper': all but convolutions and linear layers stands still")
def test_the_paper_s_layers_only():
    make, inputs = NETWORKS["LSTM"]
    module = UserModule(make(), 8, prunable="paper")
    promise = Promise(subject_of(module, inputs), "paper")
    promise.fit("a", trainer=trainer())
    recurrent = module.backbone.rnn.weight_hh_l0.clone()
    promise.fit("b", trainer=trainer())
    assert torch.equal(module.backbone.rnn.weight_hh_l0, recurrent)


@pytest.mark.promise("Modules", label="prunable='all': embeddings are divided too")
def test_tables_too():
    make, inputs, *_ = NETWORKS["an embedding with sparse gradients"]
    module = UserModule(
        make(), 8, prunable="all", optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.05, momentum=0.9)
    )
    check_promise(subject_of(module, inputs), "all", trainer=trainer())
    assert "embed.weight" in module.packnet.owners
