"""How the weights, or filters, will be divided, known before anything is trained."""

from collections.abc import Sequence

from packnet_pl.core.pruning import Scope, check_ratio, check_scope

__all__ = ["forecast"]


def forecast(layers: Sequence[int], ratios: Sequence[float | None], *, scope: Scope = "layer") -> list[tuple[int, int]]:
    """Returns, for each task, how many units (weights, or whole filters) it will own and how many it will leave.

    The same counts as :meth:`PackNet.prune` gives: each task claims what is free and releases exactly
    ``round(ratio * claimed)``, in each layer or over all of them.

    Args:
        layers: Number of units of each prunable layer that are free now: see
            :func:`packnet_pl.core.filters.count_units`.
        ratios: Per task, the share that it releases, in [0, 1); None releases nothing.
        scope: "layer" or "global".

    Raises:
        ValueError: If a ratio or the scope is not allowed.
    """
    check_scope(scope)
    free = list(layers) if scope == "layer" else [sum(layers)]
    shares = []
    for ratio in ratios:
        claimed = sum(free)
        free = [round(check_ratio(ratio or 0) * units) for units in free]
        shares.append((claimed - sum(free), sum(free)))
    return shares
