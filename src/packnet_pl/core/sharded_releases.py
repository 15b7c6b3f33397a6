"""Chooses the weights that a task releases where processes have their rows: as many, and the same, as one would."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from packnet_pl.choices import Scope
from packnet_pl.core.ownership import count_owned
from packnet_pl.core.pruning import ALL_LAYERS, count_to_release
from packnet_pl.core.sharded_selection import lowest_of_all
from packnet_pl.core.shards import Processes
from packnet_pl.core.units import Units

__all__ = ["lowest_share_of_all"]


def lowest_share_of_all(
    layers: Mapping[str, Units], ratio: float, scope: Scope, processes: Processes, *, many: bool = False
) -> dict[str, Tensor]:
    """Chooses ``ratio`` of what the task owns in each layer, or in all together.

    Args:
        layers: Name -> this process's rows.
        ratio: Share to release, in [0, 1).
        scope: "layer" or "global".
        processes: That have the rows, and must call it alike.
        many: Whether compiled loops are worth it in this process; the choice is the same.

    Returns:
        Name -> which entries of its rows to release (bool).

    Raises:
        ValueError: If more were released before, or fewer may be than ``ratio`` says.
    """
    groups = {name: [units] for name, units in layers.items()}
    if scope == "global":
        groups = {ALL_LAYERS: list(layers.values())}
    counted = [
        [
            sum(units.owned for units in group),
            sum(units.eligible for units in group),
            sum(units.released for units in group),
            sum(0 if units.first is None else count_owned(units.early().groups, 1) for units in group),
        ]
        for group in groups.values()
    ]
    totals: list[list[int]] = processes.sum(torch.tensor(counted)).tolist()
    counts = [
        count_to_release(name, ratio, owned, eligible, released)
        for name, (owned, eligible, released, _) in zip(groups, totals, strict=True)
    ]
    if all(units.first is None for units in layers.values()):
        candidates = [[units.candidates for units in group] for group in groups.values()]
        return _named(layers, lowest_of_all(candidates, counts, processes, many=many))
    before = [min(count, first) for count, (*_, first) in zip(counts, totals, strict=True)]
    early = [[units.early() for units in group] for group in groups.values()]
    late = [[units.early(late=True) for units in group] for group in groups.values()]
    sooner = _named(layers, lowest_of_all(early, before, processes, many=many))
    rest = [count - first for count, first in zip(counts, before, strict=True)]
    later = _named(layers, lowest_of_all(late, rest, processes, many=many))
    return {name: sooner[name] | later[name] for name in layers}


def _named(layers: Mapping[str, Units], chosen: Sequence[Sequence[Tensor]]) -> dict[str, Tensor]:
    return dict(zip(layers, [mask for group in chosen for mask in group], strict=True))
