"""A fit as a run makes one, on a small network and random images."""

from functools import partial

import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from torch import nn
from torch.utils.data import TensorDataset

from packnet_pl.data import TaskData
from packnet_pl.run.metrics_history import MetricsHistory
from packnet_pl.training import (
    AtomicCheckpointIO,
    PackNetCallback,
    Recipe,
    Reseed,
    TaskClassifier,
    TaskDataModule,
    fit_task,
    warmup_cosine,
)

RECIPE = Recipe(partial(torch.optim.AdamW, lr=0.01), warmup_cosine)


class Backbone(nn.Sequential):
    num_features = 8

    def __init__(self):
        super().__init__(
            nn.Conv2d(1, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(96, 8)
        )


class Noisy(TensorDataset):
    """Images that are never the same twice."""

    random = True

    def __getitem__(self, index):
        image, label = super().__getitem__(index)
        return image + torch.randn(()), label


class Classifier(TaskClassifier):
    """Logs in every way that Lightning has: in each step, and over the epoch as mean, sum, and maximum."""

    def training_step(self, batch, batch_idx):
        loss = super().training_step(batch, batch_idx)
        self.log("loss", loss, on_step=True, on_epoch=True)
        self.log("total", loss.detach(), on_step=False, on_epoch=True, reduce_fx="sum")
        self.log("most", loss.detach(), on_step=False, on_epoch=True, reduce_fx="max")
        return loss


def task_data(seed=0):
    generator = torch.Generator().manual_seed(seed)

    def split(count, kind=TensorDataset):
        return kind(torch.randn(count, 1, 6, 6, generator=generator), torch.arange(count) % 3)

    return TaskData(split(40, Noisy), split(9), split(9), ("x", "y", "z"), (1, 6, 6), (0.0,), (1.0,))


def new_model(*tasks):
    """A network in which each of ``tasks`` was fitted to its end."""
    torch.manual_seed(0)
    model = Classifier(Backbone(), recipes={"train": RECIPE, "retrain": RECIPE})
    for task in tasks:
        fit(model, task)
    return model


def fit(model, task, *, callbacks=lambda phase: [], resume=None, accumulate=1, num_workers=0, epochs=2, logs=None):
    """Fits ``task``, which gets its head first; ``logs`` is a folder for Lightning's own CSVLogger."""
    torch.manual_seed(1)
    model.add_task(task, num_classes=3)
    data = TaskDataModule(task_data(), key=(0, task), batch_size=8, accumulate=accumulate, num_workers=num_workers)

    def make_trainer(phase, callback: PackNetCallback):
        data.key = (0, task, phase)
        further = callbacks(phase)
        logger = CSVLogger(logs, name="logs", version=phase) if logs else None
        further += [MetricsHistory([logger])] if logs else []
        return pl.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            accumulate_grad_batches=accumulate,
            callbacks=[Reseed(seed=0, task=task, phase=phase), callback, *further],
            plugins=[AtomicCheckpointIO()],
            logger=logger or False,
            log_every_n_steps=1,
            enable_checkpointing=bool(further),
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    fit_task(model, data, task=task, prune_ratio=0.5, make_trainer=make_trainer, resume=resume)


def state(model):
    """Every number of the network, with the owners."""
    return {**model.state_dict(), **{f"owner of {name}": owner for name, owner in model.packnet.owners.items()}}


def assert_same_bits(left, right):
    left, right = state(left), state(right)
    assert left.keys() == right.keys()
    for name in left:
        assert torch.equal(left[name], right[name]), name
