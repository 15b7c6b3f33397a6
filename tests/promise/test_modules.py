"""Networks as people have them."""

import pytest
import pytorch_lightning as pl
import torch
from torch import optim

from tests.support.promise import checker
from tests.support.promise.checker import TASKS, Promise, asked, check_promise
from tests.support.promise.own_modules import trainer
from tests.support.promise.user_modules import (
    ADAMW,
    UserModule,
    images,
    subject_of,
)
from tests.support.promise.user_networks import NETWORKS, TIMM

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


plain_bits = checker.bits


@pytest.fixture(autouse=True)
def _bits_of_anything(monkeypatch):
    """The checker compares dense real tensors; some modules have others, or what is no tensor, in their state dict."""

    def bits(found):
        if not isinstance(found, torch.Tensor):
            return plain_bits(torch.tensor(list(repr(found).encode())))
        if found.layout != torch.strided:
            found = found.to_dense()
        return plain_bits(torch.view_as_real(found) if found.is_complex() else found)

    monkeypatch.setattr(checker, "bits", bits)


@pytest.fixture
def _state_by_attribute(monkeypatch):
    """For modules whose state dict does not say what they hold."""

    def used_by(packnet, number):
        found = {}
        for name, tensor in [*packnet.module.named_parameters(), *packnet.module.named_buffers()]:
            owner = packnet.owners.get(name)
            found[name] = plain_bits(tensor if owner is None else tensor[(owner > 0) & (owner <= number)])
        return found

    monkeypatch.setattr(checker, "used_by", used_by)


@pytest.mark.parametrize("name", NETWORKS)
def test_network(name, request):
    if "state dict" in name:
        request.getfixturevalue("_state_by_attribute")
    make, inputs, *read = NETWORKS[name]
    settings = {"read": read[0]} if read else {}
    if "sparse gradients" in name:
        settings["optimizer"] = lambda parameters: optim.SGD(parameters, lr=0.05, momentum=0.9)
    module = UserModule(make(), 8, **settings)
    check_promise(subject_of(module, inputs), name, trainer=trainer())


@pytest.mark.parametrize("name", TIMM)
def test_timm(name):
    make, side = TIMM[name]
    backbone = make()
    module = UserModule(backbone, backbone.num_features, optimizer=ADAMW)
    check_promise(subject_of(module, images(3, side), n=12), name, trainer=trainer(), tasks=("a", "b"))


class AskInside(pl.Callback):
    """Asks a finished task while another one is trained."""

    def __init__(self, used, answers):
        self.used, self.answers = used, answers

    def on_train_batch_end(self, trainer, pl_module, *_):
        packnet, task = pl_module.packnet, pl_module.task
        for finished, answers in self.answers.items():
            with packnet.subnetwork(finished):
                now = asked(self.used, finished)
            assert all(torch.equal(a, b) for a, b in zip(now, answers, strict=True)), f"{finished} while {task} trains"
        self.used.select(task)


@pytest.mark.promise("Modules", label="asked while another task is trained")
@pytest.mark.parametrize(
    "name", ["RNN", "MultiheadAttention", "GRU over packed sequences", "ParameterList, ParameterDict, bare parameters"]
)
def test_a_network_that_is_asked_while_another_task_is_trained(name):
    make, inputs, *_ = NETWORKS[name]
    module = UserModule(make(), 8)
    used, answers = subject_of(module, inputs), {}
    promise = Promise(used, name)
    for task in TASKS:
        promise.fit(task, trainer=trainer(lambda: AskInside(used, answers)))
        answers[task] = promise.finished[task].answers


@pytest.mark.promise("Modules", label="select='best' with extra state in the module")
def test_the_best_epoch_of_a_module_with_extra_state():
    make, inputs = NETWORKS["extra state"]
    module = UserModule(make(), 8)
    used = subject_of(module, inputs)
    train = used.data
    used.data = lambda task: pl.LightningDataModule.from_datasets(
        train(task).dataset, train(task).dataset, batch_size=8
    )
    check_promise(used, "extra state", trainer=trainer(max_epochs=2), select="best")
