"""Growth of the network between two tasks of a run: when too little is free, its layers widen."""

import logging
from dataclasses import dataclass

from pytorch_lightning import seed_everything

from packnet_pl.data import derive_seed
from packnet_pl.training import MultiHeadClassifier, TaskClassifier

__all__ = ["Growth", "make_room"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Growth:
    """When a network grows, and by how much.

    Attributes:
        factor: By which layers widen, above 1.
        below: Share of all prunable weights, in [0, 1): with less free (or none) the network grows for the next task.
    """

    factor: float
    below: float

    def is_due(self, free: int, weights: int) -> bool:
        """Returns whether too little is free.

        Args:
            free: Number of free weights.
            weights: Number of all prunable weights.
        """
        return free == 0 or free < self.below * weights


def make_room(growth: Growth | None, model: MultiHeadClassifier, task: str, seed: int) -> None:
    """Lets the network grow if too little is free for a task that is about to begin.

    What it decides and draws follows from the finished tasks and the seed: a run that was killed decides the same.

    Args:
        growth: None never grows.
        model: With the finished tasks.
        task: The next one.
        seed: Of the run.

    Raises:
        ValueError: If the network cannot grow.
    """
    if growth is None or not isinstance(model, TaskClassifier) or not model.packnet.tasks:
        return
    before = model.packnet.summary().total
    if not growth.is_due(before.free, before.weights):
        return
    seed_everything(derive_seed(seed, task, "growth"), verbose=False)
    model.grow(growth.factor)
    now = model.packnet.summary().total
    _log.info(
        f"the network grows for {task!r}: {before.free:,} of {before.weights:,} weights were free, and now "
        f"{now.free:,} of {now.weights:,} are"
    )
