"""The packed file: reading and writing of what ``docs/format.md`` describes, one safetensors file."""

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from packnet_pl.container.expected_tensors import CHECKSUM, check_stored, check_values
from packnet_pl.container.header import FORMAT, check_header, parse_header
from packnet_pl.container.old_formats import upgrade
from packnet_pl.container.table import METADATA, Stored, read_table
from packnet_pl.core.fingerprints import fingerprint
from packnet_pl.files import readable, replacing
from packnet_pl.names import shown
from packnet_pl.text import as_line, named

__all__ = ["Packed", "open_packed", "read_packed", "write_packed"]


@dataclass(frozen=True)
class Packed:
    """What a packed file holds: the weights are still packed.

    Attributes:
        path: Where it is.
        header: Of format 2, checked.
        stored: Name -> type and shape of each tensor, which are those that the header asks for.
        size: Of the file, in bytes.
    """

    path: str
    header: dict[str, Any]
    stored: dict[str, Stored]
    size: int

    @cached_property
    def tensors(self) -> dict[str, Tensor]:
        """Name -> tensor, as stored; read at the first use.

        Raises:
            ValueError: If one is not what was written.
        """
        with _reading(self.path):
            with readable(self.path) as path, safe_open(path, framework="pt") as file:
                found = {name: file.get_tensor(name) for name in self.stored}
            for name, tensor in found.items():
                if fingerprint(tensor) != self.header["checksums"][name]:
                    raise ValueError(f"{named(name)} is not what was written: its checksum is another")
            check_values(self.header, found)
        return found

    @property
    def tasks(self) -> list[str]:
        """Names of the tasks, in order."""
        return [entry["name"] for entry in self.header["tasks"]]

    @property
    def history(self) -> list[dict[str, Any]]:
        """What was measured of the tasks, as far as whoever wrote the file gave it."""
        return list(self.header["history"])

    @property
    def counts(self) -> dict[str, list[int]]:
        """Name of each prunable weight tensor -> how many of its weights are free, and how many each task owns."""
        return {name: list(layer["counts"]) for name, layer in self.header["weights"].items()}

    @property
    def owner_bits_per_weight(self) -> float | None:
        """Size of the coded owners over the number of prunable weights; None if no task owns any."""
        weights = sum(sum(counts) for counts in self.counts.values())
        coded = sum(of.end - of.begin for name, of in self.stored.items() if name.startswith("owners/"))
        return 8 * coded / weights if weights else None


def write_packed(path: str | os.PathLike[str], header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Writes a packed file, which is replaced as a whole.

    Args:
        path: Where to.
        header: Without ``format`` and ``checksums``.
        tensors: On the CPU, contiguous, none sharing memory.

    Raises:
        ValueError: If it is not what :func:`read_packed` takes.
    """
    checksums = {name: fingerprint(tensors[name]) for name in sorted(tensors)}
    text = json.dumps({"format": FORMAT, **header, "checksums": checksums}, ensure_ascii=False, allow_nan=False)
    try:
        parsed = parse_header(text)
        check_header(parsed)
        check_values(parsed, tensors)
        content = _content(text, tensors)
        # What would not be read again is not written.
        _, stored = read_table(BytesIO(content), len(content))
        check_stored(parsed, {name: of for name, of in stored.items() if name != CHECKSUM}, len(content))
    except ValueError as error:
        raise ValueError(f"cannot save {path}: {as_line(error)}") from error
    with replacing(path) as temporary:
        # Bytes, written by Python: a full disk is an OSError then, as everywhere else.
        temporary.write_bytes(content)


def _content(text: str, tensors: Mapping[str, Tensor]) -> bytes:
    checksum = torch.frombuffer(bytearray(_digest(text)), dtype=torch.uint8)
    # One entry of metadata: of several, safetensors writes now one first and now another.
    return save({**tensors, CHECKSUM: checksum}, metadata={METADATA: text})


def read_packed(path: str | os.PathLike[str]) -> Packed:
    """Returns what a packed file holds, without building or unpacking anything; no code in it is run.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a packed file, of another format, truncated, damaged or tampered with, or asks for more
            memory than a file of its size can need.
    """
    packed = open_packed(path)
    packed.tensors  # noqa: B018 (reads them)
    return packed


def open_packed(path: str | os.PathLike[str]) -> Packed:
    """Returns what :func:`read_packed` does; the tensors are not read yet.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If header or table are not those of a packed file.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no packed file {path}")
    with _reading(path):
        size = Path(path).stat().st_size
        with Path(path).open("rb") as file:
            text, stored = read_table(file, size)
        header = parse_header(text)
        checksum = stored.pop(CHECKSUM, None)
        if checksum is None or _bytes(path, checksum) != _digest(text):
            raise ValueError("its header is not what was written")
        if header["format"] != FORMAT:
            header = upgrade(header)
        check_header(header)
        check_stored(header, stored, size)
    return Packed(str(path), header, stored, size)


@contextmanager
def _reading(path: str | os.PathLike[str]) -> Iterator[None]:
    """Turns whatever is raised over the content of the file into a ValueError of one line."""
    try:
        yield
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{shown(path)} is not a packed file, or is damaged: {as_line(error)}") from error


def _bytes(path: str | os.PathLike[str], of: Stored) -> bytes:
    with Path(path).open("rb") as file:
        file.seek(of.begin)
        return file.read(min(of.end - of.begin, 1024))


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
