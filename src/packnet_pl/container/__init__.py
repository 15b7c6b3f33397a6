"""The packed file as bytes, a safetensors file with a JSON header: read and checked without torch."""

from packnet_pl.container.header import narrow_shapes
from packnet_pl.container.packed_file import PackedFile, open_packed

__all__ = ["PackedFile", "narrow_shapes", "open_packed"]
