"""What the tests of training share: a LightningModule of a user's own, tiny data, a quiet Trainer, and comparisons."""

from functools import partial

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.optim import SGD
from torch.utils.data import DataLoader, TensorDataset

from packnet_pl import PackNet, PackNetCallback, TaskClassifier, fit_task
from packnet_pl.methods import fit_unpruned
from packnet_pl.training import Recipe, Reseed
from tests.support.trainers import quiet

INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
MOMENTUM = partial(SGD, lr=0.1, momentum=0.9, weight_decay=5e-3)


class SmallNet(nn.Module):
    """Images (N, 1, 6, 6) -> features (N, 6), with one of each kind of state."""

    num_features = 6

    def __init__(self, dropout=0.25):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(dropout)
        self.fc = nn.Linear(16, 6)

    def forward(self, x):
        x = F.avg_pool2d(F.leaky_relu(self.bn(self.conv(x))), 2)
        return self.fc(self.drop(x.flatten(1)))


class OwnModule(pl.LightningModule):
    """A LightningModule as a user has it. All it knows of the package is one line in the constructor."""

    def __init__(self, optimizer=MOMENTUM, dropout=0.25):
        super().__init__()
        self.backbone = SmallNet(dropout)
        self.heads = nn.ModuleDict({task: own_head() for task in "abcd"})
        self.packnet = PackNet(self.backbone)
        self.task = "a"
        self.make_optimizer = optimizer
        self.val_scores = []

    def forward(self, x):
        return self.heads[self.task](self.backbone(x))

    def training_step(self, batch, batch_idx):
        x, y = batch
        return F.cross_entropy(self(x), y)

    def validation_step(self, batch, batch_idx):
        score = self.val_scores[self.current_epoch] if self.val_scores else float(self.current_epoch)
        self.log("val_accuracy", score, batch_size=1)

    def test_step(self, batch, batch_idx):
        x, y = batch
        self.log("test_loss", F.cross_entropy(self(x), y))

    def configure_optimizers(self):
        return self.make_optimizer(self.parameters())


def own_head():
    return nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.LeakyReLU(), nn.Linear(5, 3))


class Spoiler(pl.Callback):
    """Calls something at the start of one training batch."""

    def __init__(self, action, batch=1):
        self.action, self.batch = action, batch

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == self.batch:
            self.action(trainer, pl_module)


def images(seed=0, n=8):
    return torch.randn(n, 1, 6, 6, generator=torch.Generator().manual_seed(seed))


def samples(seed=0, n=32, classes=3):
    labels = torch.randint(0, classes, (n,), generator=torch.Generator().manual_seed(seed + 1000))
    return TensorDataset(images(seed, n) + seed % 7 - 3, labels)


def loader(seed=0, n=32, classes=3):
    """Batches of 8, always in the same order."""
    return DataLoader(samples(seed, n, classes), batch_size=8)


def fit_own(module, task, ratio=0.5, data=None, callbacks=(), settled=None, select="last", free=(), **kwargs):
    """Takes a task of an OwnModule from begin to finish."""
    module.task = task
    fit_task(
        module,
        data if data is not None else loader(ord(task)),
        task=task,
        prune_ratio=ratio,
        private=f"heads.{task}",
        free=free,
        make_trainer=lambda _, callback: quiet(callback, *callbacks, **kwargs),
        settled=settled,
        select=select,
    )


def fit_phase(module, task, phase="train", ratio=None, callbacks=(), data=None, ckpt_path=None, own=None, **kwargs):
    """One phase of a task of an OwnModule; ``own`` are further arguments of the PackNetCallback."""
    module.task = task
    callback = PackNetCallback(task=task, phase=phase, prune_ratio=ratio, private=f"heads.{task}", **(own or {}))
    trainer = quiet(callback, *callbacks, **kwargs)
    trainer.fit(module, data if data is not None else loader(ord(task)), ckpt_path=ckpt_path)
    return trainer


RECIPES = {"train": Recipe(MOMENTUM), "retrain": Recipe(MOMENTUM)}


def classifier(*tasks, recipes=RECIPES, backbone=None):
    """A TaskClassifier in which each of ``tasks`` was fitted to its end."""
    model = TaskClassifier(backbone or SmallNet(), recipes=recipes)
    for number, task in enumerate(tasks):
        fit_class(model, task, seed=number)
    return model


def fit_class(model, task, ratio=0.5, seed=0, classes=3, callbacks=(), **kwargs):
    if task not in model.tasks:
        model.add_task(task, num_classes=classes)
    fit_task(
        model,
        loader(seed, classes=classes),
        task=task,
        prune_ratio=ratio,
        make_trainer=lambda _, callback: quiet(callback, *callbacks, **kwargs),
    )


class StoppedError(Exception):
    """What :class:`SaveAndStop` raises."""


class SaveAndStop(pl.Callback):
    """Writes a checkpoint at the end of the first epoch, and ends the fit there."""

    def __init__(self, path):
        self.path = path

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.save_checkpoint(self.path)
        raise StoppedError


def fit_method(model, task, seed=0, *, callbacks=(), resume=None, settled=None, data=None, **kwargs):
    """Fits ``task``, which gets its head first, as the methods that prune nothing do; twice the same for a seed."""
    if task not in model.tasks:
        torch.manual_seed(seed)
        model.add_task(task, num_classes=3)
    fit_unpruned(
        model,
        data if data is not None else loader(seed),
        task=task,
        prune_ratio=None,
        make_trainer=lambda phase, callback: quiet(
            Reseed(seed=0, task=task, phase=phase), callback, *callbacks, **{"max_epochs": 2, **kwargs}
        ),
        settled=settled or (lambda module: None),
        resume=resume if resume is None or isinstance(resume, tuple) else ("train", resume),
    )


def stop_after_an_epoch(model, task, seed, path, **kwargs):
    """Fits ``task`` for one epoch of two; the checkpoint goes to ``path``."""
    with pytest.raises(StoppedError):
        fit_method(model, task, seed, callbacks=[SaveAndStop(path)], **kwargs)


def answer(model, task):
    """What ``task`` answers in eval mode."""
    with model.predicting(task) as logits, torch.no_grad():
        return logits(images())


def bits(tensor):
    """A copy of the memory of a tensor as integers: tells -0.0 from 0.0, and NaN equals itself."""
    tensor = tensor.detach().cpu().contiguous()
    return tensor.view(INTEGERS[tensor.element_size()]).clone()


def tensors(module):
    return {name: bits(tensor) for name, tensor in module.state_dict().items()}


def same(left, right):
    """Whether two dicts of tensors are equal, name by name."""
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def used_by(packnet, number):
    """Name -> bits of all in the shared part that the task of this number computes with."""
    owners = packnet.owners
    return {
        name: bits(tensor[(owners[name] > 0) & (owners[name] <= number)] if name in owners else tensor)
        for name, tensor in packnet.module.state_dict().items()
    }


def snapshot(module):
    """All that a refused fit must leave alone."""
    packnet = module.packnet
    return {
        "tasks": packnet.tasks,
        "open_task": packnet.open_task,
        "phase": packnet.phase,
        "private": packnet.private,
        "owners": {name: owner.tolist() for name, owner in packnet.owners.items()},
        "tensors": {name: value.tolist() for name, value in tensors(module).items()},
        "requires_grad": wanted(module),
    }


def wanted(module):
    return {name: parameter.requires_grad for name, parameter in module.named_parameters()}


def step_hooks(optimizer):
    return len(optimizer._optimizer_step_post_hooks)
