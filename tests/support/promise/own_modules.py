"""What the promise tests share: a user's LightningModule with one of each kind of state, tiny data, a quiet Trainer."""

from functools import partial

import pytorch_lightning as pl
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.optim import SGD
from torch.utils.data import DataLoader, TensorDataset

from packnet_pl import PackNet, PackNetCallback
from tests.support.promise.checker import TASKS, Subject
from tests.support.trainers import quiet

FEATURES = 8
MOMENTUM = partial(SGD, lr=0.05, momentum=0.9, weight_decay=5e-3)


class ConvNet(nn.Module):
    """Images (N, 1, 8, 8) -> features (N, 8): convolutions, batch-norm, dropout, linear layers, biases."""

    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 12, 3)
        self.bn2 = nn.BatchNorm2d(12)
        self.drop = nn.Dropout(0.25)
        self.fc1 = nn.Linear(48, 16)
        self.fc2 = nn.Linear(16, FEATURES)

    def forward(self, x):
        return self.top(self.bottom(x))

    def bottom(self, x):
        x = F.leaky_relu(self.bn1(self.conv1(x)))
        return F.avg_pool2d(F.leaky_relu(self.bn2(self.conv2(x))), 2)

    def top(self, x):
        return self.fc2(self.drop(F.leaky_relu(self.fc1(x.flatten(1)))))


class LinearNet(nn.Module):
    """The same for optimizers that take matrices only: every owned weight is one."""

    def __init__(self):
        super().__init__()
        self.fc1 = nn.Linear(64, 24)
        self.bn1 = nn.BatchNorm1d(24)
        self.drop = nn.Dropout(0.25)
        self.fc2 = nn.Linear(24, FEATURES)

    def forward(self, x):
        return self.fc2(self.drop(F.leaky_relu(self.bn1(self.fc1(x.flatten(1))))))


class TwoBranches(nn.Module):
    """Two parts that know nothing of each other, each with an optimizer of its own in some tests."""

    def __init__(self):
        super().__init__()
        self.left, self.right = LinearNet(), LinearNet()

    def forward(self, x):
        return self.left(x) + self.right(x)


class OwnModule(pl.LightningModule):
    """A LightningModule as a user has it. All it knows of the package is one line in the constructor."""

    def __init__(self, optimizer=MOMENTUM, backbone=None):
        super().__init__()
        self.backbone = backbone if backbone is not None else ConvNet()
        self.heads = nn.ModuleDict({task: own_head() for task in TASKS})
        self.packnet = PackNet(self.backbone)
        self.task = "a"
        self.make_optimizer = optimizer

    def forward(self, x):
        return self.heads[self.task](self.backbone(x))

    def loss(self, batch):
        x, y = batch
        return F.cross_entropy(self(x), y)

    def training_step(self, batch, batch_idx):
        return self.loss(batch)

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(batch), batch_size=len(batch[0]))

    def test_step(self, batch, batch_idx):
        self.log("test_loss", self.loss(batch), batch_size=len(batch[0]))

    def configure_optimizers(self):
        return self.make_optimizer(self.parameters())


class ManualModule(OwnModule):
    """The same with manual optimization."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.automatic_optimization = False


def own_head():
    return nn.Sequential(nn.Linear(FEATURES, 6), nn.BatchNorm1d(6), nn.LeakyReLU(), nn.Linear(6, 3))


def images(seed=0, n=8):
    return torch.randn(n, 1, 8, 8, generator=torch.Generator().manual_seed(seed))


def loader(task="a", n=32, dtype=torch.float32):
    """Four batches of 8, always in the same order; each task has images of another mean."""
    seed = ord(task[0])
    labels = torch.randint(0, 3, (n,), generator=torch.Generator().manual_seed(seed + 1000))
    return DataLoader(TensorDataset((images(seed, n) + seed % 7 - 3).to(dtype), labels), batch_size=8)


class WithValidation(pl.LightningDataModule):
    """What ``loader`` gives, to train and to validate with."""

    def __init__(self, task="a"):
        super().__init__()
        self.task = task

    def train_dataloader(self):
        return loader(self.task)

    def val_dataloader(self):
        return loader(self.task)


def subject(module, data=loader):
    """How the checker uses an OwnModule."""

    def ask(task):
        weight = next(module.backbone.parameters())
        features = module.backbone(images(1).to(weight.device, weight.dtype))
        return [features, module.heads[task](features)]

    def select(task):
        module.task = task

    return Subject(module, data, ask, select, private=lambda task: [f"heads.{task}"])


def trainer(*more, **settings):
    """For the checker: makes quiet Trainers with these settings; ``more`` make a callback each, for each Trainer."""
    return lambda *callbacks: quiet(*callbacks, *(make() for make in more), **settings)


def fit_phase(module, task, phase="train", ratio=None, callbacks=(), data=None, ckpt_path=None, **settings):
    """One phase of a task of an OwnModule; returns its Trainer."""
    module.task = task
    callback = PackNetCallback(task=task, phase=phase, prune_ratio=ratio, private=f"heads.{task}")
    used = quiet(callback, *callbacks, **settings)
    used.fit(module, data if data is not None else loader(task), ckpt_path=ckpt_path)
    return used
