"""Writes the table of a safetensors file, byte for byte as the library of that name does.

Its own functions take all tensors at once and make two copies of them; so data could not be written one after another.
"""

import json
import math
from collections.abc import Mapping, Sequence

from packnet_pl.container.table import METADATA, TYPES

__all__ = ["begin_of_file"]

_ORDER = [
    *("U64", "I64", "F64", "C64", "F32", "U32", "I32", "BF16", "F16", "U16", "I16"),
    *("F8_E5M2FNUZ", "F8_E4M3FNUZ", "F8_E4M3", "F8_E5M2", "I8", "U8", "BOOL"),
]
"""Of the data of tensors: the library's, from wide types to narrow ones."""


def begin_of_file(tensors: Mapping[str, tuple[str, Sequence[int]]], text: str) -> tuple[bytes, list[str]]:
    """Returns what a file begins with, and the names of its tensors in the order in which their data follow.

    Args:
        tensors: Name -> type, as torch calls it, and shape.
        text: The header.

    Raises:
        ValueError: If a tensor has a type that such files do not have.
    """
    spelled = {kind: (name, width) for name, (kind, width) in TYPES.items()}
    if missing := sorted({kind for kind, _ in tensors.values() if kind not in spelled}):
        raise ValueError(f"tensors of the types {missing} cannot be written; allowed are {sorted(spelled)}")
    order = sorted(tensors, key=lambda name: (_ORDER.index(spelled[tensors[name][0]][0]), name.encode()))
    table: dict[str, object] = {"__metadata__": {METADATA: text}}
    end = 0
    for name in order:
        kind, shape = tensors[name]
        begin, end = end, end + math.prod(shape) * spelled[kind][1]
        table[name] = {"dtype": spelled[kind][0], "shape": list(shape), "data_offsets": [begin, end]}
    content = json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode()
    content += b" " * (-len(content) % 8)
    return len(content).to_bytes(8, "little") + content, order
