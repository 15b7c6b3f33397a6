"""Checks that the processes of a fit agree before it begins, and ends all of them if one cannot."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import pytorch_lightning as pl
from torch import Tensor

from packnet_pl.core import PackNet
from packnet_pl.core.fingerprints import fingerprints
from packnet_pl.core.slots import wholes_in
from packnet_pl.core.state_dump import digest
from packnet_pl.core.state_shards import in_shards

__all__ = ["check_same_on_all_ranks", "failing_on_all_ranks"]


def check_same_on_all_ranks(trainer: pl.Trainer, packnet: PackNet) -> None:
    """Checks that all processes have the same tasks and owners; where each has rows, that all know the same tasks.

    Raises:
        ValueError: Otherwise, in all processes.
    """
    if trainer.world_size == 1:
        return
    inventory = packnet.inventory()
    if inventory.processes is None:
        _check_same(trainer, digest(packnet.state))
        return
    _check_same(trainer, digest(packnet.state, _names))  # else they would not count the same tensors below
    _check_same(trainer, digest(in_shards(packnet.state, wholes_in(inventory.of_tasks)), fingerprints))


def _names(tensors: Mapping[tuple[str, ...], Tensor]) -> dict[tuple[str, ...], str]:
    return dict.fromkeys(tensors, "")


def _check_same(trainer: pl.Trainer, known: str) -> None:
    same = trainer.strategy.broadcast(known) == known
    if not trainer.strategy.reduce_boolean_decision(same, all=True):
        raise ValueError(
            "the processes do not agree on tasks and owners: load the same checkpoint in all of them before the fit"
        )


@contextmanager
def failing_on_all_ranks(trainer: pl.Trainer) -> Iterator[None]:
    """Raises in all processes if what is inside fails in one: nobody waits for those that left.

    Raises:
        RuntimeError: In a process that has no error, if another one has.
    """
    error: Exception | None = None
    try:
        yield
    except Exception as raised:
        error = raised
    if trainer.world_size > 1:
        fine = trainer.strategy.reduce_boolean_decision(error is None, all=True)
        if not fine and error is None:
            raise RuntimeError("another process cannot begin the fit, and says why")
    if error is not None:
        raise error
