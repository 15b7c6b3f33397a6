"""Shares: how many weights of a layer, or of all layers, each task owns, and how many are free."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

__all__ = ["Share", "shares_of", "total_of"]


@dataclass(frozen=True)
class Share:
    """The division of the weights of one layer, or of all layers, among the tasks.

    Attributes:
        weights: Number of weights.
        owned: Task name -> number of weights it owns, in the order of the tasks.
        free: Number of weights that nobody owns.
    """

    weights: int
    owned: dict[str, int]
    free: int

    def fraction(self, task: str) -> float:
        """Returns the fraction, in [0, 1], of these weights that ``task`` owns."""
        return self.owned[task] / self.weights if self.weights else 0.0

    @property
    def free_fraction(self) -> float:
        """The fraction, in [0, 1], of these weights that is free."""
        return self.free / self.weights if self.weights else 0.0


def shares_of(counts: Mapping[str, Sequence[int]], tasks: Sequence[str]) -> dict[str, Share]:
    """Returns layer name -> its share.

    Args:
        counts: Layer name -> how many of its weights are free, and how many each task owns.
        tasks: Task names; the first has owner 1.
    """
    return {
        name: Share(sum(found), dict(zip(tasks, found[1:], strict=True)), found[0]) for name, found in counts.items()
    }


def total_of(layers: Mapping[str, Share], tasks: Sequence[str]) -> Share:
    """Returns the share of all ``layers`` together."""
    return Share(
        sum(share.weights for share in layers.values()),
        {task: sum(share.owned[task] for share in layers.values()) for task in tasks},
        sum(share.free for share in layers.values()),
    )
