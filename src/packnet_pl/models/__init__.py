"""Backbones and heads. Torch only: torchvision and timm are imported when one of their networks is built."""

from packnet_pl.models.backbones.resnet20 import ResNet20, resnet20
from packnet_pl.models.backbones.timm_backbones import timm_backbone
from packnet_pl.models.backbones.torchvision_backbones import torchvision_backbone
from packnet_pl.models.backbones.vgg_small import VGGSmall, vgg_small
from packnet_pl.models.builders import BUILDERS, build_backbone, with_head
from packnet_pl.models.casting import as_input, input_type
from packnet_pl.models.heads import Heads, HeadStart, TaskInfo, head_values, tasks_of
from packnet_pl.models.skeleton import backbone_skeleton
from packnet_pl.models.widening import wider_backbone, wider_builder
from packnet_pl.preparation import Preparation

__all__ = [
    "BUILDERS",
    "HeadStart",
    "Heads",
    "Preparation",
    "ResNet20",
    "TaskInfo",
    "VGGSmall",
    "as_input",
    "backbone_skeleton",
    "build_backbone",
    "head_values",
    "input_type",
    "resnet20",
    "tasks_of",
    "timm_backbone",
    "torchvision_backbone",
    "vgg_small",
    "wider_backbone",
    "wider_builder",
    "with_head",
]
