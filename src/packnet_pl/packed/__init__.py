"""The one-file artifact."""

from packnet_pl.packed.file import (
    Packed,
    build_packed_backbone,
    load_packed,
    packed_keeping,
    read_packed,
    save_packed,
    unpack_into,
)
from packnet_pl.packed.network import PackedNetwork

__all__ = [
    "Packed",
    "PackedNetwork",
    "build_packed_backbone",
    "load_packed",
    "packed_keeping",
    "read_packed",
    "save_packed",
    "unpack_into",
]
