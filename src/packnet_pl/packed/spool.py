"""Tensors that wait on disk until they are written to a file: of a network that no process holds."""

import os
import tempfile
from collections.abc import Iterator, MutableMapping
from pathlib import Path

import torch
from torch import Tensor

from packnet_pl.packed.tensor_bytes import bytes_of, tensor_of

__all__ = ["Spool"]


class Spool(MutableMapping[str, Tensor]):
    """Name -> tensor on the CPU: each is read anew when it is asked for.

    Args:
        beside: Where the file is to be written: they wait in its folder, in a file without a name, which the system
            removes with the process.
    """

    def __init__(self, beside: str | os.PathLike[str]) -> None:
        folder = Path(beside).parent
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 (as long as this object)
        self._places: dict[str, tuple[int, int, torch.dtype, torch.Size]] = {}

    def __setitem__(self, name: str, tensor: Tensor) -> None:
        begin = self._file.seek(0, os.SEEK_END)
        content = bytes_of(tensor)
        self._file.write(content)
        self._places[name] = begin, len(content), tensor.dtype, tensor.shape

    def __getitem__(self, name: str) -> Tensor:
        begin, length, dtype, shape = self._places[name]
        self._file.seek(begin)
        return tensor_of(bytearray(self._file.read(length)), dtype, shape)

    def __delitem__(self, name: str) -> None:
        del self._places[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)
