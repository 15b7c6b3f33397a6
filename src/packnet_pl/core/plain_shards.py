"""Reads checkpoints of ``torch.distributed.checkpoint`` as plain data: torch itself would unpickle what is in them."""

import io
import pickle
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.default_planner import DefaultLoadPlanner
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata
from torch.distributed.checkpoint.planner import ReadItem
from torch.distributed.checkpoint.state_dict_loader import load

from packnet_pl.text import as_line

__all__ = ["first_error", "load_shards_", "read_index"]

_INDEX = ".metadata"
_CHECKPOINT = "torch.distributed.checkpoint"
_NAMES = {
    f"{_CHECKPOINT}.metadata": {
        "BytesStorageMetadata",
        "ChunkStorageMetadata",
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    },
    f"{_CHECKPOINT}.filesystem": {"_StorageInfo"},
    "torch": {"Size", *(name for name, value in vars(torch).items() if isinstance(value, torch.dtype))},
    "torch.serialization": {"_get_layout"},
    "pathlib": {"PosixPath", "WindowsPath"},
    "pathlib._local": {"PosixPath", "WindowsPath"},
}
"""Module -> what an index may name of it."""


def read_index(folder: str | PathLike[str]) -> Metadata:
    """Returns what tensors a checkpoint holds, and where.

    Raises:
        FileNotFoundError: If there is none.
        ValueError: If it is damaged, or names anything else than such an index does.
    """
    path = Path(folder) / _INDEX
    try:
        found = _PlainUnpickler(io.BytesIO(path.read_bytes())).load()
    except (pickle.UnpicklingError, EOFError, AttributeError, IndexError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged, or no index of a checkpoint: {error}") from error
    if not isinstance(found, Metadata):
        raise ValueError(f"{path} is no index of a checkpoint: it is a {type(found).__name__}")
    return found


def load_shards_(state: dict[str, Any], folder: str | PathLike[str], *, alone: bool = False) -> None:
    """Reads, into the tensors of ``state``, what a checkpoint has under their names; plain values are replaced.

    Args:
        state: Sharded as it may be now.
        folder: With the checkpoint.
        alone: Whether this process reads for itself; else all must call it alike.

    Raises:
        ValueError: As :func:`read_index`, or if a value in it is not plain data.
    """
    read_index(folder)
    with first_error(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="torch.distributed is disabled")  # as it was asked for
        load(state, storage_reader=FileSystemReader(folder), planner=_PlainPlanner(), no_dist=alone)


@contextmanager
def first_error() -> Iterator[None]:
    """Raises the first error of any process in all of them, where torch has one error of many lines around all."""
    try:
        yield
    except CheckpointException as error:
        rank, (found, _) = next(iter(sorted(error.failures.items())))
        if isinstance(found, OSError) or not isinstance(found, Exception):  # Ctrl-C is among them
            raise found from error
        raise ValueError(f"the checkpoint cannot be read or written (process {rank}): {as_line(found, 300)}") from error


class _PlainUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name not in _NAMES.get(module, ()):
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return super().find_class(module, name)


class _PlainPlanner(DefaultLoadPlanner):
    def load_bytes(self, read_item: ReadItem, value: io.BytesIO) -> None:
        try:
            torch.load(value, weights_only=True)
        except pickle.UnpicklingError as error:
            raise ValueError(f"{read_item.storage_index.fqn} holds more than plain values") from error
        value.seek(0)
        super().load_bytes(read_item, value)
