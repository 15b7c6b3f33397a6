"""Saves checkpoints so that a file is always whole: the old one or the new one."""

import io
import pickle
from typing import TYPE_CHECKING, Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from packnet_pl.checkpoint_reading import unreadable
from packnet_pl.files import replacing
from packnet_pl.sharded_files import check_has_all
from packnet_pl.training.families import base_of_both

__all__ = ["AtomicCheckpointIO"]

if TYPE_CHECKING:
    from pytorch_lightning.plugins.io import TorchCheckpointIO as _CheckpointIO
else:
    _CheckpointIO = base_of_both(TorchCheckpointIO)


class AtomicCheckpointIO(_CheckpointIO):
    """Writes beside the old checkpoint, and then replaces it.

    Lightning's own goes through the temporary folder; where that is another file system the last step is a copy, and a
    process killed in it leaves half a checkpoint. Give it as ``pl.Trainer(plugins=[AtomicCheckpointIO()])``.
    """

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:
        """Writes ``checkpoint`` to ``path``."""
        if storage_options is not None:
            super().save_checkpoint(checkpoint, path, storage_options)
        # Through memory: torch's own writer raises a RuntimeError for a full disk that does not name it.
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        with replacing(path) as temporary:
            temporary.write_bytes(buffer.getbuffer())

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None) -> dict[str, Any]:
        """Returns what the file holds; arguments are those of Lightning.

        Raises:
            ValueError: If it is read as plain data, and holds something else, or is of a sharded network.
        """  # noqa: DOC501
        try:
            checkpoint = super().load_checkpoint(path, map_location, weights_only)
        except pickle.UnpicklingError as error:
            raise unreadable(path, error) from error
        check_has_all(path, checkpoint)
        return checkpoint
