"""Protocols for others' code: a user's module, and a method that fits a task."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import pytorch_lightning as pl

from packnet_pl.choices import Phase
from packnet_pl.core import PackNet

__all__ = ["FitMethod", "PackNetModule", "find_packnet", "packnet_of", "private_modules_of", "selected_task_of"]


class PackNetModule(Protocol):
    """What PackNet asks of a LightningModule: ``packnet`` it must have, the rest it may leave out.

    Attributes:
        packnet: Who owns the weights of its shared part.
        selected_task: The task that it computes a loss for; left out where the module does not choose one.
    """

    packnet: PackNet
    selected_task: str | None

    def private_modules(self, task: str) -> Sequence[str]:
        """Returns the names of the modules that only ``task`` uses, as ``get_submodule`` takes them."""


def packnet_of(module: object) -> PackNet:
    """Returns the PackNet of a module.

    Raises:
        ValueError: If it has none: a new one would know nothing of finished tasks.
    """
    packnet = find_packnet(module)
    if packnet is None:
        raise ValueError(
            f"{type(module).__name__} has no PackNet (its attribute packnet is {getattr(module, 'packnet', None)!r}); "
            "add to its constructor: self.packnet = PackNet(self.backbone), with the part that all tasks share"
        )
    return packnet


def find_packnet(module: object) -> PackNet | None:
    """Returns the PackNet of a module; None if its ``packnet`` is something else."""
    packnet = getattr(module, "packnet", None)
    return packnet if isinstance(packnet, PackNet) else None


def private_modules_of(module: object, task: str) -> Sequence[str]:
    """Returns the names of the modules that only ``task`` uses; none if the module does not name them."""
    ask: Callable[[str], Sequence[str]] | None = getattr(module, "private_modules", None)
    return ask(task) if callable(ask) else []


def selected_task_of(module: object, default: str) -> str | None:
    """Returns the task that a module computes a loss for; ``default`` if the module does not name it."""
    selected: str | None = getattr(module, "selected_task", default)
    return selected


class FitMethod(Protocol):
    """Fits one task from its first step until it is finished, as ``fit_task`` and ``fit_unpruned`` do."""

    def __call__(
        self,
        model: Any,
        datamodule: Any,
        *,
        task: str,
        prune_ratio: float | None,
        make_trainer: Callable[[Phase, pl.Callback], pl.Trainer],
        settled: Callable[[pl.LightningModule], None],
        resume: tuple[Phase, Path] | None,
    ) -> object:
        """Fits ``task``.

        Args:
            model: The classifier that this fit is for: each method has one of its own.
            datamodule: Whatever ``Trainer.fit`` takes.
            task: Its name.
            prune_ratio: Share of the task's weights to release, in [0, 1); None prunes nothing.
            make_trainer: Called for each phase with a callback to use; returns a new Trainer.
            settled: Called with the module when its weights are final, right before the task is finished.
            resume: A phase and a Lightning checkpoint of it to go on from, or None.
        """
