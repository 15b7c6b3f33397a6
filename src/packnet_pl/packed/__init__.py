"""Writes all tasks to one packed file, reads networks from it, and exports and predicts with them."""

from packnet_pl.packed.backbone import build_packed_backbone
from packnet_pl.packed.network import PackedNetwork
from packnet_pl.packed.parts import NetworkPerTask
from packnet_pl.packed.read import build_network, load_packed, packed_keeping, packed_networks, unpack_into
from packnet_pl.packed.tensors import Packed, read_packed
from packnet_pl.packed.write import Precision, TaskFigures, save_packed

__all__ = [
    "NetworkPerTask",
    "Packed",
    "PackedNetwork",
    "Precision",
    "TaskFigures",
    "build_network",
    "build_packed_backbone",
    "load_packed",
    "packed_keeping",
    "packed_networks",
    "read_packed",
    "save_packed",
    "unpack_into",
]
