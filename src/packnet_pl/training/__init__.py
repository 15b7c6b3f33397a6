"""PackNet in PyTorch Lightning, and the methods that it is compared with."""

from packnet_pl.training.callback import PackNetCallback
from packnet_pl.training.checkpoints import AtomicCheckpointIO
from packnet_pl.training.classifier import TaskClassifier
from packnet_pl.training.classifier_only import ClassifierOnly
from packnet_pl.training.divergence import DivergedError
from packnet_pl.training.fit import fit_task
from packnet_pl.training.individual import IndividualNetworks
from packnet_pl.training.joint import JointClassifier
from packnet_pl.training.lwf import LearningWithoutForgetting
from packnet_pl.training.mixin import PackNetMixin
from packnet_pl.training.recipe import Recipe
from packnet_pl.training.reseed import Reseed
from packnet_pl.training.schedules import step_decay, warmup_cosine
from packnet_pl.training.unpruned import fit_unpruned

__all__ = [
    "AtomicCheckpointIO",
    "ClassifierOnly",
    "DivergedError",
    "IndividualNetworks",
    "JointClassifier",
    "LearningWithoutForgetting",
    "PackNetCallback",
    "PackNetMixin",
    "Recipe",
    "Reseed",
    "TaskClassifier",
    "fit_task",
    "fit_unpruned",
    "step_decay",
    "warmup_cosine",
]
