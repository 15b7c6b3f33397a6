"""Checks that the processes of a fit agree before it begins, and ends all of them if one cannot."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytorch_lightning as pl

from packnet_pl.core import PackNet
from packnet_pl.core.state_dump import digest

__all__ = ["check_same_on_all_ranks", "failing_on_all_ranks"]


def check_same_on_all_ranks(trainer: pl.Trainer, packnet: PackNet) -> None:
    """Checks that all processes have the same tasks and owners.

    Raises:
        ValueError: Otherwise, in all processes.
    """
    if trainer.world_size == 1:
        return
    known = digest(packnet.state)
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
