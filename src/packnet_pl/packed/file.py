"""The packed file: reading and writing of what ``docs/format.md`` describes, one safetensors file."""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from packnet_pl.core.digest import fingerprint
from packnet_pl.files import replacing
from packnet_pl.packed.header import FORMAT, STORED_TYPES, check_header, expected_tensors, parse_header
from packnet_pl.packed.old_formats import upgrade

__all__ = ["Packed", "read_packed", "write_packed"]

_KEY = "packnet_pl"
_CHECKSUM = "checksum"
_LONGEST_HEADER = 1 << 24
_LARGEST_GROWTH = 256
_ALWAYS_ALLOWED = 1 << 20


@dataclass(frozen=True)
class Packed:
    """What a packed file holds, as it was read: the weights are still packed.

    Attributes:
        path: Where it was.
        header: Of format 2, checked.
        tensors: Name -> tensor, as stored.
        size: Of the file, in bytes.
    """

    path: str
    header: dict[str, Any]
    tensors: dict[str, Tensor]
    size: int

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
        coded = sum(tensor.numel() for name, tensor in self.tensors.items() if name.startswith("owners/"))
        return 8 * coded / weights if weights else None


def write_packed(path: str | os.PathLike[str], header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Writes a packed file, which is replaced as a whole.

    Args:
        path: Where to.
        header: Without ``format`` and ``checksums``.
        tensors: On the CPU, contiguous, none sharing memory.

    Raises:
        ValueError: If the header is not one that :func:`read_packed` takes.
    """
    checksums = {name: fingerprint(tensors[name]) for name in sorted(tensors)}
    text = json.dumps({"format": FORMAT, **header, "checksums": checksums}, ensure_ascii=False, allow_nan=False)
    try:
        check_header(parse_header(text))
    except ValueError as error:
        raise ValueError(f"cannot save {path}: {error}") from error
    # One entry of metadata: of several, safetensors writes now one first and now another.
    content = save({**tensors, _CHECKSUM: _digest(text)}, metadata={_KEY: text})
    if int.from_bytes(content[:8], "little") > _LONGEST_HEADER:
        raise ValueError(f"cannot save {path}: what is to be said of its tasks takes more than {_LONGEST_HEADER} bytes")
    with replacing(path) as temporary:
        # Bytes, written by Python: a full disk is an OSError then, as everywhere else.
        temporary.write_bytes(content)


def read_packed(path: str | os.PathLike[str]) -> Packed:
    """Returns what a packed file holds, without building or unpacking anything; no code in it is run.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a packed file, of another format, truncated, damaged or tampered with, or asks for more
            memory than a file of its size can need.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no packed file {path}")
    size = Path(path).stat().st_size
    try:
        _check_length(path, size)
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            if _KEY not in metadata:
                raise ValueError(f"it is a safetensors file without a {_KEY!r} header")
            header = parse_header(metadata[_KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a dict)
        checksum = tensors.pop(_CHECKSUM, None)
        if checksum is None or not torch.equal(checksum, _digest(metadata[_KEY])):
            raise ValueError("its header is not what was written")
        if header["format"] != FORMAT:
            header = upgrade(header)
        packed = Packed(str(path), header, tensors, size)
        check_header(header)
        _check_tensors(packed)
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError, RuntimeError, OverflowError) as error:
        said = " ".join(str(error).split())[:300]
        raise ValueError(f"{path} is not a packed file, or is damaged: {said}") from error
    return packed


def _check_length(path: str | os.PathLike[str], size: int) -> None:
    with Path(path).open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(size - 8, _LONGEST_HEADER):
        raise ValueError(f"it says that {length} bytes of header follow, in a file of {size} bytes")


def _check_tensors(packed: Packed) -> None:
    header, tensors = packed.header, packed.tensors
    if set(tensors) != set(header["checksums"]):
        wrong = sorted(set(tensors) ^ set(header["checksums"]))
        raise ValueError(f"its tensors are not those that its header lists: {wrong[:3]}")
    expected = set(expected_tensors(header))
    missing = sorted(expected - set(tensors))
    unknown = sorted(name for name in set(tensors) - expected if not name.startswith(("shared/", "copies/")))
    if missing or unknown:
        raise ValueError(f"it has no {missing[:3]}" if missing else f"it holds {unknown[:3]}, which belong to nothing")
    needed = sum(math.prod(layer["shape"]) * STORED_TYPES[layer["dtype"]] for layer in header["weights"].values())
    if needed > max(_LARGEST_GROWTH * packed.size, _ALWAYS_ALLOWED):
        raise ValueError(f"it asks for {needed} bytes of weights, and is {packed.size} bytes long")
    for name, counts in packed.counts.items():
        values, coded = tensors[f"values/{name}"], tensors[f"owners/{name}"]
        if values.shape != (sum(counts[1:]),) or str(values.dtype).removeprefix("torch.") not in STORED_TYPES:
            found = f"{values.dtype} {list(values.shape)}"
            raise ValueError(f"{name} has values of {found}, and {sum(counts[1:])} owned weights")
        if coded.ndim != 1 or coded.element_size() != 1:
            raise ValueError(f"the owners of {name} are no bytes")
    for number, task in enumerate(header["tasks"]):
        weight, bias = tensors[f"heads/{number}/weight"], tensors[f"heads/{number}/bias"]
        if weight.ndim != 2 or len(weight) != task["num_classes"] or bias.shape != weight.shape[:1]:
            raise ValueError(f"the head of task {task['name']!r} is not one of {task['num_classes']} classes")
    for name, tensor in tensors.items():
        if fingerprint(tensor) != header["checksums"][name]:
            raise ValueError(f"{name} is not what was written: its checksum is another")


def _digest(text: str) -> Tensor:
    return torch.frombuffer(bytearray(hashlib.blake2b(text.encode(), digest_size=16).digest()), dtype=torch.uint8)
