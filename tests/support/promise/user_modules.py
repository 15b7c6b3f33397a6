"""Any network as the shared part of a user's LightningModule, with data and questions for the promise checker."""

from copy import deepcopy
from functools import partial

import pytorch_lightning as pl
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn, optim
from torch.utils.data import DataLoader, TensorDataset

from packnet_pl import PackNet
from tests.support.promise.checker import TASKS, Subject
from tests.support.promise.own_modules import MOMENTUM

ADAMW = partial(optim.AdamW, lr=0.01, weight_decay=0.1)


class UserModule(pl.LightningModule):
    """A network of any kind, with a linear head for each task on top of its features.

    Args:
        backbone: Takes the inputs of a batch; all tasks share it.
        features: Length of the feature vectors.
        read: From what the backbone returns to feature vectors.
        optimizer: Takes the parameters.
        packnet: Arguments of PackNet.
    """

    def __init__(self, backbone, features, *, read=lambda out: out, optimizer=MOMENTUM, **packnet):
        super().__init__()
        self.backbone = backbone
        self.heads = nn.ModuleDict({task: nn.Linear(features, 3) for task in TASKS})
        self.packnet = PackNet(backbone, **packnet)
        self.task, self.read, self.make_optimizer = "a", read, optimizer

    def forward(self, *inputs):
        return self.heads[self.task](self.read(self.backbone(*inputs)))

    def loss(self, batch):
        *inputs, labels = batch
        return F.cross_entropy(self(*inputs), labels)

    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        *inputs, labels = batch
        self.log("val_accuracy", (self(*inputs).argmax(1) == labels).float().mean(), batch_size=len(labels))

    def configure_optimizers(self):
        return self.make_optimizer(self.parameters())


class BuiltLater(UserModule):
    """Builds its layers and its PackNet in ``configure_model``.

    Args:
        make: Returns the shared part, with 8 features.
    """

    def __init__(self, make):
        pl.LightningModule.__init__(self)
        self.make, self.backbone = make, None
        self.task, self.read, self.make_optimizer = "a", lambda out: out, MOMENTUM

    def configure_model(self):
        if self.backbone is None:
            self.backbone = self.make()
            self.heads = nn.ModuleDict({task: nn.Linear(8, 3) for task in TASKS})
            self.packnet = PackNet(self.backbone)


def vectors(size=8):
    return lambda n: [torch.randn(n, size)]


def images(channels=1, side=8):
    return lambda n: [torch.randn(n, channels, side, side)]


def sequences(length=6, size=8):
    return lambda n: [torch.randn(n, length, size)]


def tokens(length=6, vocabulary=20):
    return lambda n: [torch.randint(1, vocabulary, (n, length))]


def subject_of(module, inputs, *, n=24):
    """How the checker uses a UserModule.

    Args:
        module: What is trained.
        inputs: Called with a number; returns that many random inputs.
        n: Samples of a task: three batches.
    """

    def data(task):
        with torch.random.fork_rng():
            torch.manual_seed(ord(task[0]))
            shift = ord(task[0]) % 3 - 1
            moved = [x + shift if x.is_floating_point() else x for x in inputs(n)]
            return DataLoader(TensorDataset(*moved, torch.randint(3, (n,))), batch_size=n // 3)

    with torch.random.fork_rng():
        torch.manual_seed(77)
        probe = inputs(4)

    def ask(task):
        features = module.read(module.backbone(*probe))
        return [features, module.heads[task](features)]

    def select(task):
        module.task = task

    return Subject(module, data, ask, select, private=lambda task: [f"heads.{task}"])


def asked_once(module, used):
    """For layers that write in eval mode too: a copy is asked, so that asking changes nothing.

    Where a subnetwork is shown, the module itself is asked as well, and must agree.
    """
    plain = used.ask

    def ask(task):
        whole = module.backbone
        module.backbone = deepcopy(whole)
        expected = plain(task)
        module.backbone = whole
        if task in module.packnet.tasks:
            assert all(torch.equal(a, b) for a, b in zip(plain(task), expected, strict=True))
        return expected

    used.ask = ask
    return used
