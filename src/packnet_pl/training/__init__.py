"""PackNet in PyTorch Lightning."""

from packnet_pl.training.callback import PackNetCallback
from packnet_pl.training.checkpoints import AtomicCheckpointIO
from packnet_pl.training.classifier import Recipe, TaskClassifier
from packnet_pl.training.finetune import fine_tune_task
from packnet_pl.training.fit import fit_task
from packnet_pl.training.reseed import Reseed
from packnet_pl.training.schedules import step_decay, warmup_cosine

__all__ = [
    "AtomicCheckpointIO",
    "PackNetCallback",
    "Recipe",
    "Reseed",
    "TaskClassifier",
    "fine_tune_task",
    "fit_task",
    "step_decay",
    "warmup_cosine",
]
