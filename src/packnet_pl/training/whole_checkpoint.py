"""Reads the checkpoint of a sharded network in one process, as if one process had written it."""

import io
from os import PathLike
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from packnet_pl.checkpoint_reading import read_checkpoint
from packnet_pl.core.plain_shards import load_shards_, read_index
from packnet_pl.core.sharded_reading import IN_LIGHTNING, read_sharded_state
from packnet_pl.sharded_files import has_shards
from packnet_pl.training.sharded_strategy import REST, checkpoint_folder

__all__ = ["as_one_file"]

_WEIGHTS = "state_dict."


def as_one_file(path: Any) -> Any:
    """Returns ``path``, or a file in memory where the checkpoint has a folder: with all weights and the tasks.

    The optimizers are left out.

    Args:
        path: Of a checkpoint; or an open file, which is left alone.

    Raises:
        FileNotFoundError: If there is no such checkpoint.
        ValueError: If it is damaged.
    """
    if not isinstance(path, (str, PathLike)) or (isinstance(path, str) and "://" in path):
        return path
    if not Path(path).is_dir() and not has_shards(Path(path)):
        return path  # unread: it may hold what only its owner allows
    folder = checkpoint_folder(path)
    if not folder.is_dir():
        return path
    checkpoint = read_checkpoint(folder / REST)
    checkpoint["state_dict"] = _weights(folder)
    if "packnet" in checkpoint:
        checkpoint["packnet"] = read_sharded_state(folder, IN_LIGHTNING)
    file = io.BytesIO()
    torch.save(checkpoint, file)
    file.seek(0)
    return file


def _weights(folder: Path) -> dict[str, torch.Tensor]:
    weights = {
        name: torch.empty(found.size, dtype=found.properties.dtype)
        for name, found in read_index(folder).state_dict_metadata.items()
        if isinstance(found, TensorStorageMetadata)
        and name.startswith(_WEIGHTS)
        and not name.startswith((f"{IN_LIGHTNING}.", f"{IN_LIGHTNING}_best."))
    }
    load_shards_(weights, folder, alone=True)
    return {name.removeprefix(_WEIGHTS): tensor for name, tensor in weights.items()}
