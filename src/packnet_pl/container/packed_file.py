"""An opened packed file: header and table are checked; the bytes of its tensors are read on request."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from packnet_pl.container.expected_tensors import CHECKSUM, check_stored
from packnet_pl.container.header import WITHOUT_MASKS, check_header, parse_header
from packnet_pl.container.old_formats import upgrade
from packnet_pl.container.table import Stored, read_table
from packnet_pl.names import shown
from packnet_pl.text import as_line, named

__all__ = ["PackedFile", "digest", "open_packed", "reading"]

_HASH = 16
"""Bytes of a hash."""


@dataclass(frozen=True)
class PackedFile:
    """The checked header and the table of tensors of a packed file.

    Attributes:
        path: Where it is.
        header: Of format 3, or 4 where a task has a mask, 5 where one is narrower than the network; checked.
        stored: Name -> type, shape and offsets of each tensor, which are those that the header asks for.
        size: Of the file, in bytes.
    """

    path: str
    header: Mapping[str, Any] = field(repr=False)
    stored: Mapping[str, Stored] = field(repr=False)
    size: int

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks, in order."""
        return [entry["name"] for entry in self.header["tasks"]]

    @property
    def history(self) -> list[dict[str, Any]]:
        """Results of the tasks, as far as the writer of the file gave them."""
        return list(self.header["history"])

    @property
    def counts(self) -> dict[str, list[int]]:
        """Name of each prunable weight tensor -> how many of its weights are free, and how many each task owns."""
        return {name: list(layer["counts"]) for name, layer in self.header["weights"].items()}

    @property
    def owner_bits_per_weight(self) -> float | None:
        """Size of the coded owners over the number of prunable weights; None if no task owns any."""
        weights = sum(sum(counts) for counts in self.counts.values())
        return 8 * self.bytes_below("owners/") / weights if weights else None

    @property
    def unused(self) -> dict[str, list[int]]:
        """Name of each prunable weight tensor -> how many weights of earlier tasks each task leaves unused."""
        return {n: list(layer.get("unused", [0] * len(self.tasks))) for n, layer in self.header["weights"].items()}

    def bytes_below(self, prefix: str) -> int:
        """Returns how many bytes the tensors take whose names begin with ``prefix``."""
        return sum(of.end - of.begin for name, of in self.stored.items() if name.startswith(prefix))

    def contents(self) -> Iterator[tuple[str, bytearray]]:
        """Reads the file once, from begin to end: yields the name and the bytes of each tensor.

        Raises:
            ValueError: If a tensor is not what was written.
        """
        with reading(self.path), Path(self.path).open("rb") as file:
            for name, of in sorted(self.stored.items(), key=lambda item: (item[1].begin, item[1].end)):
                content = bytearray(of.end - of.begin)
                file.seek(of.begin)
                file.readinto(content)
                if f"{of.dtype}:{digest(content)}" != self.header["checksums"][name]:
                    raise ValueError(f"{named(name)} is not what was written: its checksum is another")
                yield name, content

    def check_contents(self) -> None:
        """Reads every tensor, to check the hashes, and keeps none.

        Raises:
            ValueError: If one is not what was written.
        """
        for _ in self.contents():
            pass


def open_packed(path: str | os.PathLike[str]) -> PackedFile:
    """Reads header and table of a packed file, and checks them against each other; no tensor is read.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If header or table are not those of a packed file, it is of another format, or asks for more memory
            than a file of its size can need.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no packed file {path}")
    with reading(path), Path(path).open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        text, stored = read_table(file, size)
        header = parse_header(text)
        checksum = stored.pop(CHECKSUM, None)
        if checksum is None or _bytes(file, checksum).hex() != digest(text.encode()):
            raise ValueError("its header is not what was written")
        if header["format"] < WITHOUT_MASKS:
            header = upgrade(header)
        check_header(header)
        check_stored(header, stored, size)
    return PackedFile(str(path), header, stored, size)


@contextmanager
def reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns whatever reading the file raises into a ValueError of one line."""
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{shown(path)} is not a packed file, or is damaged: {as_line(error)}") from error


def _bytes(file: BinaryIO, of: Stored) -> bytes:
    """Reads the bytes of the tensor of a hash, at most one more than a hash has."""
    file.seek(of.begin)
    return file.read(min(of.end - of.begin, _HASH + 1))


def digest(content: bytes | bytearray) -> str:
    """Returns the hash (128-bit BLAKE2b, as hexadecimal digits) of the header's text, or of a tensor's bytes."""
    return hashlib.blake2b(content, digest_size=_HASH).hexdigest()
