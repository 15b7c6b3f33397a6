"""Lightning's strategy for networks that are divided among processes by rows; its checkpoints are always whole."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pytorch_lightning.strategies import ModelParallelStrategy
from torch.distributed.checkpoint.filesystem import FileSystem, FileSystemWriter
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.checkpoint.state_dict_saver import save

from packnet_pl.checkpoint_reading import read_checkpoint
from packnet_pl.core.plain_shards import first_error, load_shards_
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
            with first_error():
                save(divided, storage_writer=writer)
            if self.global_rank == 0:
                whole = AtomicCheckpointIO()
                whole.save_checkpoint(checkpoint, folder / REST)
                whole.save_checkpoint({**checkpoint, SHARDS: describe_shards(folder)}, path)
        finally:
            if self.global_rank == 0:
                remove_other_shards(path, _named(path))  # the earlier one, or what there is of this one

    def load_checkpoint(self, checkpoint_path: Any, weights_only: bool | None = None) -> dict[str, Any]:
        """Loads weights and optimizers from a checkpoint, and returns the rest; shards are read as plain data.

        Raises:
            ValueError: If it is damaged, or shards hold what is not plain data.
        """
        folder, model = checkpoint_folder(self.broadcast(checkpoint_path)), self.model
        assert model is not None
        assert self.lightning_module is not None
        with first_error():
            if not folder.is_dir():
                return super().load_checkpoint(folder, weights_only)
            weights = {"state_dict": get_model_state_dict(model)}
            load_shards_(weights, folder)
            model.load_state_dict(weights["state_dict"], strict=self.lightning_module.strict_loading)
            for number, optimizer in enumerate(self.optimizers):
                name = f"optimizer_{number}"
                state = {name: get_optimizer_state_dict(model, optimizer)}
                load_shards_(state, folder)
                set_optimizer_state_dict(model, optimizer, optim_state_dict=state[name])
        rest: dict[str, Any] = read_checkpoint(folder / REST)
        return rest

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


class _Files(FileSystem):
    @contextmanager
    def create_stream(self, path: str | os.PathLike[str], mode: str) -> Iterator[io.IOBase]:
        """Raises the system's error for a full disk, where torch's writer has one of its own that does not name it."""
        try:
            with super().create_stream(path, mode) as stream:
                yield stream
        except RuntimeError as error:
            raise error.__context__ if isinstance(error.__context__, OSError) else error from None
