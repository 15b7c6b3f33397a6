"""The one-file artifact."""

from packnet_pl.packed.file import load_packed, save_packed
from packnet_pl.packed.network import PackedNetwork

__all__ = ["PackedNetwork", "load_packed", "save_packed"]
