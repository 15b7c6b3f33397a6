"""PackNet in PyTorch Lightning: ``callback`` has the hooks, ``task_phase`` and ``task_fit`` act, ``core`` computes."""

from packnet_pl.training.callback import PackNetCallback
from packnet_pl.training.checkpoint_io import AtomicCheckpointIO
from packnet_pl.training.classifier import TaskClassifier
from packnet_pl.training.datamodule import TaskDataModule
from packnet_pl.training.distillation import Distillation
from packnet_pl.training.divergence import DivergedError
from packnet_pl.training.exponential_average import ExponentialAverage
from packnet_pl.training.filter_snapshots import FilterSnapshots
from packnet_pl.training.fit import fit_task
from packnet_pl.training.last_part_average import LastPartAverage
from packnet_pl.training.losses import ClassificationLoss
from packnet_pl.training.mixing import batch_mixing
from packnet_pl.training.multi_head import MultiHeadClassifier
from packnet_pl.training.packnet_checkpoint import PackNetMixin
from packnet_pl.training.protocols import FitMethod, PackNetModule
from packnet_pl.training.recalibration import RecalibrateNorms
from packnet_pl.training.recipe import Recipe
from packnet_pl.training.reseed import Reseed
from packnet_pl.training.schedules import step_decay, warmup_cosine
from packnet_pl.training.seeded_sampler import SeededSampler
from packnet_pl.training.sharded_strategy import ShardedStrategy
from packnet_pl.training.sharding import shard_
from packnet_pl.training.task_observer import TaskObserver
from packnet_pl.training.teacher import DenseTeacher

__all__ = [
    "AtomicCheckpointIO",
    "ClassificationLoss",
    "DenseTeacher",
    "Distillation",
    "DivergedError",
    "ExponentialAverage",
    "FilterSnapshots",
    "FitMethod",
    "LastPartAverage",
    "MultiHeadClassifier",
    "PackNetCallback",
    "PackNetMixin",
    "PackNetModule",
    "RecalibrateNorms",
    "Recipe",
    "Reseed",
    "SeededSampler",
    "ShardedStrategy",
    "TaskClassifier",
    "TaskDataModule",
    "TaskObserver",
    "batch_mixing",
    "fit_task",
    "shard_",
    "step_decay",
    "warmup_cosine",
]
