"""The strategies that a run calls by a name of its own, for its Trainers."""

from collections.abc import Mapping
from typing import Any

from packnet_pl.choices import SHARDED
from packnet_pl.training import ShardedStrategy

__all__ = ["with_strategy"]


def with_strategy(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns keyword arguments of a Trainer, in which a name of a run's own is a new strategy.

    Args:
        settings: With ``strategy``, by its name in a configuration.
    """
    return {**settings, "strategy": ShardedStrategy()} if settings["strategy"] == SHARDED else dict(settings)
