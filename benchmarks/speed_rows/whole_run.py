"""Fits and evaluations of a run over two tasks, over plain Lightning fine-tuning of the same epochs and evaluations."""

import copy
import io
import tempfile
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from rich.console import Console
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer
from torch.utils.data import DataLoader
from torchmetrics.classification import MulticlassAccuracy

from packnet_pl import TaskClassifier
from packnet_pl.data import TaskData
from packnet_pl.models import torchvision_backbone
from packnet_pl.run import StopRequest
from packnet_pl.run.evaluation import evaluate
from packnet_pl.run.loggers import RunLoggers
from packnet_pl.run.progress import RunProgress
from packnet_pl.run.stage_fit import fit_stage
from packnet_pl.run.task_record import TaskRecord
from speed_rows.clock import Report, ratios
from speed_rows.networks import OPTIMIZERS
from speed_rows.sequence import BATCH, CLASSES, EPOCHS, plan_of, random_task

__all__ = ["measure"]

TASKS, IMAGES, ROUNDS = 2, 768, 1


class _Plain(pl.LightningModule):
    """ResNet-18 with a head per task, fine-tuned as Lightning's own examples do: loss and accuracies are logged."""

    def __init__(self, shared: nn.Module, num_features: int) -> None:
        super().__init__()
        self.shared = shared
        self.heads = nn.ModuleList(nn.Linear(num_features, CLASSES) for _ in range(TASKS))
        self.task = 0
        self.train_accuracy, self.val_accuracy = (MulticlassAccuracy(CLASSES, average="micro") for _ in range(2))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        logits = self.heads[self.task](self.shared(batch[0]))
        loss = cross_entropy(logits, batch[1])
        self.train_accuracy(logits, batch[1])
        self.log("train_loss", loss)
        self.log("train_accuracy", self.train_accuracy, on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        logits = self.heads[self.task](self.shared(batch[0]))
        self.val_accuracy(logits, batch[1])
        self.log("val_loss", cross_entropy(logits, batch[1]))
        self.log("val_accuracy", self.val_accuracy)

    def configure_optimizers(self) -> Optimizer:
        return OPTIMIZERS["momentum"](self.parameters())


def measure(quick: bool, report: Report) -> dict[str, list[float]]:
    """Returns the row's ratios. Packed file, figures and results are left out on one side, loggers on both."""
    images, pixels = (32, 32) if quick else (IMAGES, 64)
    shared: Any = torchvision_backbone("resnet18")  # its stem for small images takes 16 times as long

    def ours() -> None:
        with tempfile.TemporaryDirectory() as folder:
            _run(copy.deepcopy(shared), Path(folder), images, pixels)

    def plain() -> None:
        with tempfile.TemporaryDirectory() as folder:
            module = _Plain(copy.deepcopy(shared), shared.num_features)
            tasks = [random_task(number + 1, images, pixels) for number in range(TASKS)]
            for number in range(TASKS):
                _fine_tune(module, tasks[: number + 1], Path(folder))

    return {"whole-run": ratios(ours, plain, 1 if quick else ROUNDS, report)}


def _run(shared: nn.Module, folder: Path, images: int, pixels: int) -> None:
    plan = plan_of(folder, TASKS, images, pixels)
    model = TaskClassifier(shared)
    records: list[TaskRecord] = []
    progress, stop = RunProgress(Console(file=io.StringIO()), plan), StopRequest()
    for number, stage in enumerate(plan.stages, start=1):
        progress.begin(stage)
        results = fit_stage(plan, stage, model, progress, None, stop, RunLoggers(plan))
        records += evaluate(plan, plan.tasks[:number], model, results, records).records
        progress.end(results, resumed=False)


def _fine_tune(module: _Plain, tasks: list[TaskData], folder: Path) -> None:
    module.task = len(tasks) - 1
    for phase in EPOCHS:
        trainer = _trainer(folder, EPOCHS[phase])
        trainer.fit(module, _loader(tasks[-1].train, shuffle=True), _loader(tasks[-1].val))
    for number, data in enumerate(tasks):
        module.task = number
        for split in (data.test, data.val):
            _trainer(folder, 1).validate(module, _loader(split), verbose=False)


def _trainer(folder: Path, epochs: int) -> pl.Trainer:
    return pl.Trainer(
        default_root_dir=folder,
        max_epochs=epochs,
        accelerator="cpu",
        devices=1,
        logger=False,
        num_sanity_val_steps=0,
        enable_progress_bar=False,
        enable_model_summary=False,
    )


def _loader(split: Any, shuffle: bool = False) -> DataLoader[Any]:
    return DataLoader(split, batch_size=BATCH, shuffle=shuffle, drop_last=shuffle)
