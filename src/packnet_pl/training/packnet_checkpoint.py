"""Writes and loads ``checkpoint["packnet"]``, the state of PackNet in a Lightning checkpoint."""

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import pytorch_lightning as pl
from pytorch_lightning.utilities import rank_zero_warn

from packnet_pl.checkpoint_reading import unreadable
from packnet_pl.core import load_sharded_state, sharded_state_dict
from packnet_pl.core.conversion import take_types_
from packnet_pl.core.sharded_reading import IN_LIGHTNING
from packnet_pl.sharded_files import check_has_all
from packnet_pl.training.families import is_of_lightning
from packnet_pl.training.protocols import packnet_of
from packnet_pl.training.sharded_strategy import checkpoint_folder
from packnet_pl.training.whole_checkpoint import as_one_file

__all__ = ["PackNetMixin", "load_packnet", "load_packnet_from", "write_packnet"]


def write_packnet(module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
    """Writes the state of a module's PackNet, unless the module, or its PackNetCallback, has written it.

    Where each process has rows of it, it is written with the weights, and only what all know alike stands beside them.

    Raises:
        RuntimeError: If a finished task's weights were changed from outside.
        ValueError: If the module has no PackNet.
    """
    if "packnet" not in checkpoint:
        packnet = packnet_of(module)
        if packnet.inventory().processes is None:
            checkpoint["packnet"] = packnet.state_dict(module)
        else:
            checkpoint["state_dict"]["packnet"] = sharded_state_dict(packnet, module)
            known = {"tasks": packnet.tasks, "open_task": packnet.open_task, "phase": packnet.phase}
            checkpoint["packnet"] = {"sharded": True, **known}
    if not isinstance(module, PackNetMixin):
        name = type(module).__name__
        rank_zero_warn(
            f"{name}.load_from_checkpoint() will know no task of the checkpoints that are written now: make it "
            f"class {name}(PackNetMixin, ...), from packnet_pl, or call PackNet.from_checkpoint(module.backbone, path) "
            "after it"
        )


def load_packnet(module: pl.LightningModule, checkpoint: dict[str, Any]) -> None:
    """Loads the state of a module's PackNet, before or after Lightning loads the weights.

    Raises:
        ValueError: If the checkpoint has none or that of another network, its weights are in a folder that Lightning
            does not read, or the module has no PackNet.
    """
    path = getattr(module._trainer, "ckpt_path", None)
    check_has_all(path, checkpoint)
    load_packnet_from(path, module, checkpoint)


def load_packnet_from(path: str | Path | None, module: pl.LightningModule, checkpoint: Mapping[str, Any]) -> None:
    """Loads the state of a module's PackNet as :func:`load_packnet` does.

    Args:
        path: Of the checkpoint: where it has a folder, each process reads its rows.
        module: Has a PackNet.
        checkpoint: What Lightning read.

    Raises:
        ValueError: As :func:`load_packnet`.
    """
    if "packnet" not in checkpoint:
        raise ValueError("the checkpoint holds no PackNet state: it was not written by a fit with PackNetCallback")
    if checkpoint["packnet"].get("sharded"):
        load_sharded_state(packnet_of(module), checkpoint_folder(str(path)), IN_LIGHTNING)
    else:
        take_types_(module, checkpoint.get("state_dict", {}))
        packnet_of(module).load_state_dict(checkpoint["packnet"])


class PackNetMixin:
    """Keeps the tasks of a user's own LightningModule: writes ``self.packnet`` to its checkpoints and loads it.

    To be named before the LightningModule, of either library::

        class MyModel(PackNetMixin, pl.LightningModule):
            ...

    ``MyModel.load_from_checkpoint(path)`` then knows the tasks that were finished. The module's ``state_dict()`` stays
    what it is, so with ``torch.save(model.state_dict(), path)`` goes ``model.packnet.state_dict()``. A class with
    ``on_save_checkpoint`` or ``on_load_checkpoint`` of its own calls ``super()`` in it.

    Raises:
        TypeError: When a class names it behind the LightningModule, whose hooks would hide these, or has such hooks
            that do not call ``super()``: tasks would be lost without a word.
    """

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        order = list(cls.__mro__)
        first = next((c for c in order if is_of_lightning(c)), None)
        if first is not None and order.index(first) < order.index(PackNetMixin):
            raise TypeError(
                f"{cls.__name__} has PackNetMixin behind {first.__name__}, which hides it: "
                f"class {cls.__name__}(PackNetMixin, {first.__name__})"
            )
        for hook in ("on_save_checkpoint", "on_load_checkpoint"):
            code = getattr(vars(cls).get(hook), "__code__", None)
            if code is not None and not {"super", "packnet", hook} & {*code.co_names, *code.co_consts}:
                raise TypeError(
                    f"{cls.__name__}.{hook} hides that of PackNetMixin: call super().{hook}(checkpoint) in it"
                )

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, *args: Any, **kwargs: Any) -> Any:
        """Loads the module as Lightning does, and tells plain data from the rest in its errors.

        A checkpoint of a sharded network is read whole, into the memory of this process.

        Raises:
            ValueError: If the file holds what is not plain data, as some hyperparameters; it says how to allow them.
        """  # noqa: DOC501
        checkpoint_path = as_one_file(checkpoint_path)
        try:
            return super().load_from_checkpoint(checkpoint_path, *args, **kwargs)  # type: ignore[misc]
        except UnpicklingError as error:
            raise unreadable(checkpoint_path, error) from error

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the state of PackNet."""
        super().on_save_checkpoint(checkpoint)  # type: ignore[misc]
        write_packnet(self, checkpoint)  # type: ignore[arg-type]

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Loads the state of PackNet; a checkpoint without it is taken as initial weights."""
        super().on_load_checkpoint(checkpoint)  # type: ignore[misc]
        packnet_of(self)
        if "packnet" in checkpoint:
            load_packnet(self, checkpoint)  # type: ignore[arg-type]
        else:
            rank_zero_warn(
                "the checkpoint holds no PackNet state: its weights are loaded, and none of them belongs to a task"
            )
