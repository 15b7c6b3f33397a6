"""Reads the table of a safetensors file, without torch and without trust in what it says."""

import json
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, NoReturn

from packnet_pl.text import brief, check_text, named

__all__ = ["METADATA", "TYPES", "Stored", "parse_json", "read_table"]

METADATA = "packnet_pl"
"""The one entry of the metadata: the header."""

_LONGEST_TEXT = 1 << 24
_MOST_COMMAS = 1 << 19
_MOST_BRACKETS = 1 << 18
_MOST_TENSORS = 1 << 16
_MOST_DIMENSIONS = 8
_LONGEST_NAME = 1024

TYPES = {
    "F64": ("float64", 8),
    "F32": ("float32", 4),
    "F16": ("float16", 2),
    "BF16": ("bfloat16", 2),
    "F8_E4M3": ("float8_e4m3fn", 1),
    "F8_E4M3FNUZ": ("float8_e4m3fnuz", 1),
    "F8_E5M2": ("float8_e5m2", 1),
    "F8_E5M2FNUZ": ("float8_e5m2fnuz", 1),
    "C64": ("complex64", 8),
    "I64": ("int64", 8),
    "I32": ("int32", 4),
    "I16": ("int16", 2),
    "I8": ("int8", 1),
    "U64": ("uint64", 8),
    "U32": ("uint32", 4),
    "U16": ("uint16", 2),
    "U8": ("uint8", 1),
    "BOOL": ("bool", 1),
}
"""Types as safetensors spells them -> as torch does, and bytes of each."""


@dataclass(frozen=True)
class Stored:
    """One tensor of the table: type, shape and offsets.

    Attributes:
        dtype: As torch calls it, such as "float32".
        shape: Of the tensor.
        begin: Where its data begin in the file, in bytes.
        end: Where they end.
    """

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def read_table(file: BinaryIO, size: int) -> tuple[str, dict[str, Stored]]:
    """Returns the text of the header, and name -> type, shape and offsets of each tensor; no tensor is read.

    Args:
        file: At its beginning.
        size: Of the file, in bytes.

    Raises:
        ValueError: If it is not a safetensors file with a header, the data are not those of the table, or the text is
            one that would cost seconds, or hundreds of megabytes.
    """
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(size - 8, _LONGEST_TEXT):
        raise ValueError(
            f"it says that {length} bytes of header follow, in a file of {size} bytes; allowed are {_LONGEST_TEXT}"
        )
    text = file.read(length)
    if length % 8 or not text.startswith(b"{") or not text.rstrip(b" ").endswith(b"}"):
        raise ValueError("its table is not JSON from { to }, filled up with spaces to a multiple of 8 bytes")
    table = parse_json(text.decode())
    if not isinstance(table, dict):
        raise ValueError("its table is no JSON object")
    metadata = table.pop("__metadata__", None)
    if not isinstance(metadata, dict) or METADATA not in metadata:
        raise ValueError(f"it is a safetensors file without a {METADATA!r} header")
    if len(metadata) > 1 or not isinstance(metadata[METADATA], str):
        raise ValueError(f"its metadata are {brief(sorted(metadata))}; allowed is one text, {METADATA!r}")
    if len(table) > _MOST_TENSORS:
        raise ValueError(f"it has {len(table)} tensors; allowed are {_MOST_TENSORS}")
    stored = {check_text("the name of a tensor", n, _LONGEST_NAME): _entry(n, e, 8 + length) for n, e in table.items()}
    end = 8 + length
    for name, tensor in sorted(stored.items(), key=lambda item: (item[1].begin, item[1].end)):
        if tensor.begin != end:
            raise ValueError(f"the data of {named(name)} do not begin where others end")
        end = tensor.end
    if end != size:
        raise ValueError(f"its tensors end at byte {end}, and the file at byte {size}")
    return metadata[METADATA], stored


def parse_json(text: str) -> Any:
    """Parses JSON in which no object may have a key twice.

    Raises:
        ValueError: If it is no JSON, or would cost far more memory or time than the text of any network.
    """
    # Each value takes ten times the bytes of its text and more, so they are counted first.
    for what, characters, most in (("values", ",", _MOST_COMMAS), ("lists and objects", "[{", _MOST_BRACKETS)):
        found = sum(text.count(character) for character in characters)
        if found > most:
            raise ValueError(f"its header has about {found} {what}; allowed are {most}")
    if sys.getsizeof(text) > 2 * _LONGEST_TEXT + 100:
        raise ValueError(f"its header takes {sys.getsizeof(text)} bytes; allowed are {2 * _LONGEST_TEXT}")
    try:
        return json.loads(text, object_pairs_hook=_object, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("its header is nested too deeply") from error


def _object(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise ValueError(f"its header has the entry {brief(twice)} twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"its header holds {name}")


def _entry(name: str, entry: Any, data: int) -> Stored:
    """Parses the entry of one tensor; the data of all begin at ``data``."""
    if not isinstance(entry, dict) or set(entry) != {"dtype", "shape", "data_offsets"}:
        raise ValueError(f"what its table says of {named(name)} is not dtype, shape and data_offsets")
    dtype, shape, offsets = entry["dtype"], entry["shape"], entry["data_offsets"]
    if not isinstance(dtype, str) or dtype not in TYPES:
        raise ValueError(f"{named(name)} is of the type {brief(dtype)}; allowed are {', '.join(TYPES)}")
    if not _are_sizes(shape) or len(shape) > _MOST_DIMENSIONS:
        raise ValueError(f"{named(name)} has the shape {brief(shape)}")
    kind, width = TYPES[dtype]
    if not _are_sizes(offsets) or len(offsets) != 2 or offsets[1] - offsets[0] != math.prod(shape) * width:
        raise ValueError(f"{named(name)}, {dtype} {brief(shape)}, does not fit into the bytes {brief(offsets)}")
    if (data + offsets[0]) % width:
        raise ValueError(f"the data of {named(name)} begin at a byte that its type cannot be read at")
    return Stored(kind, tuple(shape), data + offsets[0], data + offsets[1])


def _are_sizes(given: Any) -> bool:
    return isinstance(given, list) and all(type(number) is int and 0 <= number < 1 << 50 for number in given)
