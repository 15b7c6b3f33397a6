"""Reads and writes header and tensors of a packed file: each byte is read once, and is the tensor's memory."""

import json
import math
import os
from collections.abc import Mapping
from functools import cached_property
from io import BytesIO
from typing import Any, TypeVar

import torch
from torch import Tensor

from packnet_pl.container.expected_tensors import CHECKSUM, check_stored
from packnet_pl.container.header import FORMAT, GROWN, WITHOUT_MASKS, check_header, parse_header
from packnet_pl.container.packed_file import PackedFile, digest, open_packed, reading
from packnet_pl.container.table import Stored, read_table
from packnet_pl.container.table_writing import begin_of_file
from packnet_pl.core.content_hash import content_hash
from packnet_pl.core.finite import is_finite
from packnet_pl.files import replacing
from packnet_pl.packed.tensor_bytes import bytes_of, tensor_of
from packnet_pl.text import as_line, named

__all__ = ["Packed", "below", "read_packed", "write_packed"]

Of = TypeVar("Of", Tensor, Stored)


class Packed(PackedFile):
    """A packed file with its tensors, read at the first use; its weights are still coded."""

    @classmethod
    def of(cls, file: PackedFile) -> "Packed":
        """Returns ``file``, opened before, with its tensors."""
        return cls(file.path, file.header, file.stored, file.size)

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Name -> tensor on the CPU, as stored.

        Raises:
            ValueError: If one is not what was written, or holds NaN or infinity where no finished task has any.
        """
        found = {name: _tensor(content, self.stored[name]) for name, content in self.contents()}
        with reading(self.path):
            _check_finite(self.header, found)
        return found


def read_packed(path: str | os.PathLike[str]) -> Packed:
    """Reads a packed file whole, without building or unpacking anything; no code in it is run.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a packed file, of another format, truncated, damaged or tampered with, or asks for more
            memory than a file of its size can need.
    """
    packed = Packed.of(open_packed(path))
    packed.tensors  # noqa: B018 (reads them)
    return packed


def write_packed(path: str | os.PathLike[str], header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> PackedFile:
    """Writes a packed file, which is replaced as a whole.

    Args:
        path: Where to.
        header: Without ``format`` and ``checksums``.
        tensors: On the CPU, contiguous; asked for one after another, and once more to be written.

    Returns:
        What was written.

    Raises:
        ValueError: If it is not what :func:`packnet_pl.container.open_packed` takes.
    """
    checksums, kinds = dict[str, str](), dict[str, tuple[str, tuple[int, ...]]]()
    for name in sorted(tensors):
        tensor = tensors[name]  # it may be read from a disk
        checksums[name], kinds[name] = content_hash(tensor), _kind(tensor)
    has_masks = any("unused" in layer for layer in header["weights"].values())
    version = FORMAT if has_masks else WITHOUT_MASKS
    version = GROWN if "shapes" in (header["packnet"] or {}) else version
    text = json.dumps({"format": version, **header, "checksums": checksums}, ensure_ascii=False, allow_nan=False)
    checksum = torch.frombuffer(bytearray.fromhex(digest(text.encode())), dtype=torch.uint8)
    try:
        parsed = parse_header(text)
        check_header(parsed)
        _check_finite(parsed, tensors)
        kinds[CHECKSUM] = _kind(checksum)
        begin, order = begin_of_file(kinds, text)
        size = len(begin) + sum(math.prod(shape) * getattr(torch, kind).itemsize for kind, shape in kinds.values())
        # What would not be read again is not written.
        _, stored = read_table(BytesIO(begin), size)
        stored.pop(CHECKSUM)
        check_stored(parsed, stored, size)
    except ValueError as error:
        raise ValueError(f"cannot save {path}: {as_line(error)}") from error
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.write(begin)
        for name in order:
            file.write(bytes_of(checksum if name == CHECKSUM else tensors[name]))
    return PackedFile(str(path), parsed, stored, size)


def _kind(tensor: Tensor) -> tuple[str, tuple[int, ...]]:
    return str(tensor.dtype).removeprefix("torch."), tuple(tensor.shape)


def _check_finite(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Checks that heads and owned weights are finite, in the type that they have in the network, and statistics too.

    Raises:
        ValueError: Otherwise.
    """
    types = {f"values/{name}": layer["dtype"] for name, layer in header["weights"].items()}
    for name, tensor in tensors.items():
        if name.startswith(("heads/", "which/")) or name in types:
            numbers = tensor.to(getattr(torch, types[name])) if name in types else tensor
            if not is_finite(numbers):
                raise ValueError(f"{named(name)} holds NaN or infinity, which no finished task has")


def below(prefix: str, tensors: Mapping[str, Of]) -> dict[str, Of]:
    """Returns the tensors whose names begin with ``prefix``, under what follows it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _tensor(content: bytearray, of: Stored) -> Tensor:
    """Returns ``content`` as the tensor that the table says it is, sharing memory."""
    return tensor_of(content, getattr(torch, of.dtype), of.shape)
