"""Checks the arguments of ``fit_task`` before anything is trained: Lightning reports them late or in riddles."""

from collections.abc import Iterable, Sized
from typing import Any

import pytorch_lightning as pl
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, IterableDataset

from packnet_pl.counting import counted
from packnet_pl.training.families import library_of, of_both, overrides

__all__ = ["check_data", "check_module_given", "check_trainer"]


def check_module_given(model: object) -> None:
    """Checks that a LightningModule was given, compiled or not.

    Raises:
        ValueError: For anything else.
    """
    if not isinstance(getattr(model, "_orig_mod", model), of_both(pl.LightningModule)):
        raise ValueError(
            f"fit_task was given {_kind(model)} as its model; it takes a LightningModule with an attribute packnet"
        )


def check_data(model: object, data: object, val_dataloaders: object) -> None:
    """Checks that both phases of a task can be trained on the data.

    Args:
        model: A LightningModule.
        data: A datamodule or training loader; None where ``model`` has a ``train_dataloader`` of its own.
        val_dataloaders: A loader, several of them, or None.

    Raises:
        ValueError: Otherwise.
    """
    if isinstance(data, of_both(pl.LightningDataModule)):
        if val_dataloaders is not None:
            raise ValueError(
                f"val_dataloaders was given beside the datamodule {type(data).__name__}, which has its own: "
                "give loaders for both, or the datamodule alone"
            )
        return
    if isinstance(data, (list, tuple)):
        raise ValueError(
            f"fit_task was given {_kind(data)} of {len(data)} to train on; it takes one loader, with the one for "
            "validation beside it: fit_task(model, train_loader, val_dataloaders=val_loader, ...); for several at once "
            "in training, a lightning CombinedLoader"
        )
    if data is not None:
        _check_loader("to train on", data)
    elif not overrides(model, "train_dataloader"):
        raise ValueError(
            f"fit_task was given None to train on, and {type(model).__name__} has no train_dataloader() of its own: "
            "give a loader or a datamodule"
        )
    for loader in val_dataloaders if isinstance(val_dataloaders, (list, tuple)) else [val_dataloaders]:
        if loader is not None:
            _check_loader("as val_dataloaders", loader)


def check_trainer(trainer: object, model: object, data: object, call: str) -> None:
    """Checks that the Trainer is new, and of the same library as the module and the datamodule.

    Args:
        trainer: What ``make_trainer`` returned.
        model: A LightningModule.
        data: A datamodule, or anything else.
        call: How ``make_trainer`` was called, for the message.

    Raises:
        ValueError: Otherwise.
    """
    if not isinstance(trainer, of_both(pl.Trainer)):
        raise ValueError(f"{call} returned {_kind(trainer)}: it must return a new Trainer for each call")
    if trainer.global_step or trainer.current_epoch:
        raise ValueError(
            f"{call} returned a Trainer that has made {counted(trainer.current_epoch, 'epoch')} already, and would "
            "count on: it must return a new one for each call"
        )
    library = library_of(trainer, pl.Trainer)
    for given, cls in ((getattr(model, "_orig_mod", model), pl.LightningModule), (data, pl.LightningDataModule)):
        if isinstance(given, of_both(cls)) and (other := library_of(given, cls)) != library:
            raise ValueError(
                f"{call} returned a Trainer of {library}, and {type(given).__name__} is a {cls.__name__} of {other}: "
                f"these two do not mix; take everything from {other} (import {other} as pl)"
            )


def _check_loader(what: str, given: object) -> None:
    if isinstance(given, type):
        raise ValueError(f"fit_task was given the class {given.__name__} {what}; give an object: {given.__name__}(...)")
    if isinstance(given, Dataset) and not isinstance(given, IterableDataset):
        raise ValueError(
            f"fit_task was given the dataset {type(given).__name__} {what}; give a loader: "
            "DataLoader(dataset, batch_size=..., shuffle=...)"
        )
    if isinstance(given, (str, bytes, Tensor)) or not isinstance(given, Iterable):
        raise ValueError(f"fit_task was given {_kind(given)} {what}; it takes a loader or a datamodule")
    if hasattr(given, "__next__"):
        raise ValueError(
            f"fit_task was given {_kind(given)} {what}, which is used up after one epoch; give what begins anew for "
            "each, such as a DataLoader"
        )
    if isinstance(given, DataLoader) and isinstance(given.dataset, Sized) and len(given) == 0:
        raise ValueError(
            f"fit_task was given a loader without a batch {what}: it has {counted(len(given.dataset), 'sample')}, "
            f"batch_size={given.batch_size} and drop_last={given.drop_last}"
        )


def _kind(given: Any) -> str:
    return "None" if given is None else f"a {type(given).__name__}"
