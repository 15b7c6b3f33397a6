"""Writes all tasks to one packed file, reads networks from it, and exports and predicts with them."""

from packnet_pl.packed.backbone import build_packed_backbone
from packnet_pl.packed.feature_statistics import FeatureStatistics, fit_statistics
from packnet_pl.packed.network import PackedNetwork
from packnet_pl.packed.parts import NetworkPerTask
from packnet_pl.packed.read import (
    build_network,
    load_packed,
    packed_keeping,
    packed_networks,
    packed_statistics,
    unpack_into,
)
from packnet_pl.packed.tensors import Packed, read_packed
from packnet_pl.packed.write import Precision, TaskFigures, save_packed

__all__ = [
    "FeatureStatistics",
    "NetworkPerTask",
    "Packed",
    "PackedNetwork",
    "Precision",
    "TaskFigures",
    "build_network",
    "build_packed_backbone",
    "fit_statistics",
    "load_packed",
    "packed_keeping",
    "packed_networks",
    "packed_statistics",
    "read_packed",
    "save_packed",
    "unpack_into",
]
