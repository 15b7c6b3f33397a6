"""A packed file with its tensors: each byte is read once, compared with its checksum, and is the tensor's memory."""

import os
from collections.abc import Mapping
from functools import cached_property
from typing import Any, TypeVar

import torch
from torch import Tensor

from packnet_pl.container.packed_file import PackedFile, open_packed, reading
from packnet_pl.container.table import Stored
from packnet_pl.text import named

__all__ = ["Packed", "below", "check_finite", "read_packed"]

Of = TypeVar("Of", Tensor, Stored)


class Packed(PackedFile):
    """A packed file with its tensors, which are read at the first use; its weights are still packed."""

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
            check_finite(self.header, found)
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


def check_finite(header: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """Does nothing if heads are finite, and weights that tasks own, in the type that they have in the network.

    Raises:
        ValueError: Otherwise.
    """
    types = {f"values/{name}": layer["dtype"] for name, layer in header["weights"].items()}
    for name, tensor in tensors.items():
        if name.startswith("heads/") or name in types:
            numbers = tensor.to(getattr(torch, types[name])) if name in types else tensor
            if not bool(torch.isfinite(numbers).all()):
                raise ValueError(f"{named(name)} holds NaN or infinity, which no finished task has")


def below(prefix: str, tensors: Mapping[str, Of]) -> dict[str, Of]:
    """Returns the tensors whose names begin with ``prefix``, under what follows it."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def _tensor(content: bytearray, of: Stored) -> Tensor:
    """Returns ``content`` as the tensor that the table says it is, sharing memory."""
    flat = torch.frombuffer(content, dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)
    return flat.view(getattr(torch, of.dtype)).reshape(of.shape)
