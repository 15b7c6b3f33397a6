"""Lightning's strategy for networks that are divided among processes by rows; its checkpoints are always whole."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning.strategies import ModelParallelStrategy
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystem, FileSystemWriter
from torch.distributed.checkpoint.state_dict_saver import save

from packnet_pl.checkpoint_reading import read_checkpoint
from packnet_pl.core.shards import is_shard
from packnet_pl.distributed import broadcast_
from packnet_pl.sharded_files import (
    SHARDS,
    check_shards,
    describe_shards,
    new_shards,
    remove_other_shards,
    shards_named,
)
from packnet_pl.training.checkpoint_io import AtomicCheckpointIO

__all__ = ["REST", "ShardedStrategy", "checkpoint_folder"]

REST = "meta.pt"
"""What Lightning calls all that is neither weights nor an optimizer's."""


class ShardedStrategy(ModelParallelStrategy):
    """FSDP2: ``configure_model`` gives layers to ``fully_shard``, over ``self.device_mesh["data_parallel"]``.

    It differs from Lightning's ``ModelParallelStrategy`` in three things. A checkpoint never takes the place of an
    earlier one before it is complete: see :mod:`packnet_pl.sharded_files`. Buffers, such as running statistics, are
    those of the first process whenever they are validated or saved, as under DDP: each process has statistics of the
    images that it saw, and a checkpoint has room for one. And nothing is divided otherwise than by rows.
    """

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1)

    def setup_environment(self) -> None:
        """Connects the processes; all of them divide the rows."""
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def on_validation_start(self) -> None:
        """Takes the buffers of the first process."""
        super().on_validation_start()
        self._agree_on_buffers()

    def lightning_module_state_dict(self) -> dict[str, Any]:
        """Returns the weights for a checkpoint, sharded, with the buffers of the first process."""
        self._agree_on_buffers()
        return super().lightning_module_state_dict()

    def save_checkpoint(self, checkpoint: dict[str, Any], filepath: Any, storage_options: Any | None = None) -> None:
        """Writes ``checkpoint`` to ``filepath`` and a folder beside it, and then removes the earlier one.

        Raises:
            OSError: If it cannot be written; the earlier checkpoint is as it was.
            TypeError: If there are ``storage_options``.
        """
        if storage_options is not None:
            raise TypeError(
                f"storage_options={storage_options!r} was given; {type(self).__name__} writes to folders only"
            )
        path = Path(self.broadcast(filepath))
        if self.global_rank == 0:
            remove_other_shards(path, _named(path))  # left over by a process that was killed
        folder = self.broadcast(new_shards(path))
        optimizers = checkpoint.pop("optimizer_states", [])
        divided = {"state_dict": checkpoint.pop("state_dict")}
        divided |= {f"optimizer_{number}": state for number, state in enumerate(optimizers)}
        writer = FileSystemWriter(folder)
        writer.fs = _Files()
        try:
            with _errors_of_files():
                save(divided, storage_writer=writer)
            if self.global_rank == 0:
                whole = AtomicCheckpointIO()
                whole.save_checkpoint(checkpoint, folder / REST)
                whole.save_checkpoint({**checkpoint, SHARDS: describe_shards(folder)}, path)
        finally:
            if self.global_rank == 0:
                remove_other_shards(path, _named(path))  # the earlier one, or what there is of this one

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Loads weights and optimizers from a checkpoint of such a strategy, or of another, and returns the rest.

        Raises:
            ValueError: If it is damaged.
        """
        with _errors_of_files():
            return super().load_checkpoint(checkpoint_folder(checkpoint_path), weights_only)

    def _agree_on_buffers(self) -> None:
        assert self.model is not None
        broadcast_(buffer for buffer in self.model.buffers() if not is_shard(buffer))


def checkpoint_folder(path: str | os.PathLike[str]) -> Path:
    """Returns the folder with the shards of a checkpoint, or ``path`` itself where that has all.

    Args:
        path: As it was given to ``trainer.save_checkpoint``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged.
    """
    path = Path(path)
    if path.is_dir():
        return path
    checkpoint = read_checkpoint(path)
    check_shards(path, checkpoint)
    return shards_named(path, checkpoint) or path


def _named(path: Path) -> Path | None:
    try:
        return shards_named(path, read_checkpoint(path)) if path.is_file() else None
    except ValueError:
        return None  # a damaged one, which is about to be replaced


@contextmanager
def _errors_of_files() -> Iterator[None]:
    """Raises the first error of any process in all of them, where torch has one error of many lines around all."""
    try:
        yield
    except CheckpointException as error:
        rank, (found, _) = next(iter(sorted(error.failures.items())))
        if isinstance(found, OSError) or not isinstance(found, Exception):  # Ctrl-C is among them
            raise found from error
        raise ValueError(f"the checkpoint cannot be read or written (process {rank}): {found}") from error


class _Files(FileSystem):
    @contextmanager
    def create_stream(self, path: str | os.PathLike[str], mode: str) -> Iterator[io.IOBase]:
        """Raises the system's error for a full disk, where torch's writer has one of its own that does not name it."""
        try:
            with super().create_stream(path, mode) as stream:
                yield stream
        except RuntimeError as error:
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None
