"""The methods that PackNet is compared with: one file each, with how it fits a task."""

from packnet_pl.methods.classifier_only import ClassifierOnly
from packnet_pl.methods.finetune import FineTuning
from packnet_pl.methods.individual import IndividualNetworks
from packnet_pl.methods.joint import JointClassifier
from packnet_pl.methods.lwf import LearningWithoutForgetting
from packnet_pl.methods.unpruned import UnprunedClassifier, fit_unpruned

__all__ = [
    "ClassifierOnly",
    "FineTuning",
    "IndividualNetworks",
    "JointClassifier",
    "LearningWithoutForgetting",
    "UnprunedClassifier",
    "fit_unpruned",
]
