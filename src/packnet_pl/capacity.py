"""Forecasts how many tasks a network has room for, and what share of its weights each task will own."""

from collections.abc import Callable, Sequence

from packnet_pl.choices import Scope

__all__ = ["MAX_TASKS", "forecast"]

MAX_TASKS = 255
"""Owners are uint8, which counts to 255, and 0 means free."""


def forecast(
    layers: Sequence[int],
    ratios: Sequence[float | None],
    *,
    scope: Scope = "layer",
    grow: Callable[[int, int], Sequence[int]] | None = None,
) -> list[tuple[int, int]]:
    """Returns, for each task, how many units (weights, or whole filters) it will own and how many it will leave.

    The same counts as :meth:`PackNet.prune` gives: each task claims what is free and releases exactly
    ``round(ratio * claimed)``, in each layer or over all of them.

    Args:
        layers: Number of units of each prunable layer that are free now: see
            :func:`packnet_pl.core.pruning.count_units`.
        ratios: Per task, the share that it releases, in [0, 1); None releases nothing.
        scope: "layer" or "global".
        grow: Called before each task with its place (from 0) and the number of units that are free; returns how many
            units come to each layer, or nothing.
    """
    free = list(layers) if scope == "layer" else [sum(layers)]
    shares = []
    for number, ratio in enumerate(ratios):
        added = grow(number, sum(free)) if grow is not None else ()
        if added:
            free = [units + more for units, more in zip(free, added if scope == "layer" else [sum(added)], strict=True)]
        claimed = sum(free)
        free = [round((ratio or 0) * units) for units in free]
        shares.append((claimed - sum(free), sum(free)))
    return shares
