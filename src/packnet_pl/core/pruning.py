"""Chooses the weights that a task releases: exactly ``round(ratio * owned)`` of them, the lowest scores first."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from packnet_pl.choices import GRANULARITIES, SCOPES, Granularity, Scope, check_choice
from packnet_pl.core.directions import last_entries
from packnet_pl.core.filters import filter_norms, owned_filters, spread_filters
from packnet_pl.core.inventory import Inventory
from packnet_pl.core.ownership import FREE
from packnet_pl.core.rows import untrained
from packnet_pl.core.scores import Score, magnitude
from packnet_pl.core.slots import Slot, tensors_in
from packnet_pl.core.state import State

__all__ = ["PruneRule", "check_finite", "check_rule", "choose_releases", "count_units", "lowest", "rule_of"]

_ALL = "all layers"


@dataclass(frozen=True)
class PruneRule:
    """How a task is pruned: by which score, within what, and what is released as a whole.

    Attributes:
        score: What a weight is worth, such as :func:`packnet_pl.core.magnitude`: from a layer's weight to one finite
            score per entry.
        scope: "layer" counts and ranks in each layer (the paper's), "global" over all layers together.
        granularity: "weight" releases single weights (the paper's), "filter" whole output channels by the L2 norm of
            their scores; the prune ratio is then a share of the task's filters.

    Raises:
        ValueError: If a choice is not allowed.
    """

    score: Score = magnitude
    scope: Scope = "layer"
    granularity: Granularity = "weight"

    def __post_init__(self) -> None:
        if not callable(self.score):
            raise ValueError(f"prune score is {self.score!r}; it takes a function of a layer's weight")
        check_choice("prune scope", self.scope, SCOPES, {"layer": "the paper's"})
        notes: dict[Granularity, str] = {"weight": "the paper's", "filter": "output channels"}
        check_choice("prune granularity", self.granularity, GRANULARITIES, notes)


def rule_of(rule: PruneRule | None, scope: Scope | None, granularity: Granularity | None) -> PruneRule:
    """Returns the rule that a function was given, whole or as scope and granularity.

    Raises:
        ValueError: If both were given, or one is not allowed.
    """
    if not isinstance(rule, PruneRule | None):
        raise ValueError(f"rule is {rule!r}; it takes a PruneRule(score, scope, granularity)")
    short = {"scope": scope, "granularity": granularity}
    given = {name: choice for name, choice in short.items() if choice is not None}
    if rule is None:
        return PruneRule(**given)  # type: ignore[arg-type]
    if given:
        written = ", ".join(f"{name}={choice!r}" for name, choice in given.items())
        raise ValueError(f"{written} was given beside rule={rule}; give it in the rule: PruneRule({written})")
    return rule


def choose_releases(
    slots: Mapping[str, Slot],
    owned: Mapping[str, Tensor],
    ratio: float,
    rule: PruneRule,
    trained_rows: Mapping[str, Tensor] | None = None,
) -> dict[str, Tensor]:
    """Chooses the weights that a task gives up (paper, section 3.1, "Pruning").

    Where a layer divides a row by its length (:mod:`packnet_pl.core.directions`), the best entry of the row is passed
    over if the row would be nothing but zeros without it, and the next lowest is released instead.

    Args:
        slots: Name -> slot of each weight.
        owned: Name -> which entries the task owns (bool, the weight's shape).
        ratio: Share to release, in [0, 1).
        rule: How.
        trained_rows: Name of a table -> which of its rows the task trained (bool); others are released first.

    Returns:
        Name -> which entries to release (bool, the weight's shape).

    Raises:
        ValueError: If a weight or score is not finite, or ``rule`` releases filters and one is owned in part, or the
            outputs of a layer are not known, or fewer may be released than ``ratio`` says.
    """
    weights = tensors_in(slots)
    for name, weight in weights.items():
        check_finite(name, weight)

    def units(name: str) -> _Units:
        scores = _score(rule.score, name, weights[name])
        rows = (trained_rows or {}).get(name)
        rows = None if rows is None else rows.to(scores.device)
        if rule.granularity == "weight":
            kept = last_entries(slots[name], owned[name], scores)
            first = None if rows is None else untrained(rows, scores.shape)
            return _Units(scores, owned[name], owned[name] if kept is None else owned[name] & ~kept, first)
        filters = owned_filters(name, slots[name], owned[name])
        return _Units(filter_norms(name, slots[name], scores), filters, filters, None if rows is None else ~rows)

    if rule.scope == "layer":
        chosen = {name: _lowest_share(name, units(name), ratio) for name in weights}
    else:
        chosen = _lowest_share_over_all({name: units(name) for name in weights}, ratio)
    if rule.granularity == "weight":
        return chosen
    return {name: spread_filters(name, slots[name], chosen[name], weight.shape) for name, weight in weights.items()}


def check_rule(rule: PruneRule, state: State, inventory: Inventory, ratio: float = 0.0) -> None:
    """Checks that the open task, or else the next one, can be pruned by ``rule``.

    Args:
        rule: How.
        state: Of the tasks.
        inventory: The tensors of the network.
        ratio: Share to release, in [0, 1).

    Raises:
        ValueError: If it releases filters, and one belongs to that task and to earlier ones, or the outputs of a layer
            are not known; or if fewer weights may be released than ``ratio`` says.
    """
    number = FREE if state.open_task is None else len(state.names)
    counts: dict[str, tuple[int, int]] = {}
    for name, owner in state.owners.items():
        slot, mask = inventory.owned[name], owner == number
        kept = last_entries(slot, mask) if rule.granularity == "weight" else None
        counts[name] = count_units(name, slot, mask, rule.granularity), 0 if kept is None else int(kept.sum())
    if rule.scope == "global":
        counts = {_ALL: (sum(owned for owned, _ in counts.values()), sum(stay for _, stay in counts.values()))}
    for name, (owned, stay) in counts.items():
        _count_of(name, ratio, owned, owned - stay)


def count_units(name: str, slot: Slot, mask: Tensor, granularity: Granularity) -> int:
    """Returns how many weights, or whole filters, of a weight are marked in ``mask`` (bool, its shape).

    Raises:
        ValueError: If a filter is marked in part, or the outputs of the layer are not known.
    """
    return int((mask if granularity == "weight" else owned_filters(name, slot, mask)).sum())


def lowest(scores: Tensor, eligible: Tensor, count: int) -> Tensor:
    """Chooses the ``count`` lowest scores among the eligible entries.

    Ties go to the lower flat index (row-major, whatever the memory layout), so the choice is exact also when many
    scores are equal. No float arithmetic is involved: float32 cannot count beyond 2^24.

    Args:
        scores: Finite values, any shape and real dtype.
        eligible: Bool, same shape: where to choose.
        count: How many to choose, in [0, number of eligible entries].

    Returns:
        Bool, same shape, with exactly ``count`` entries True.
    """
    chosen = torch.zeros(scores.shape, dtype=torch.bool, device=scores.device)
    if count == 0:
        return chosen
    candidates = scores[eligible]
    threshold = torch.kthvalue(candidates, count).values
    below = candidates < threshold
    ties = candidates == threshold
    missing = count - int(below.sum())
    chosen[eligible] = below | (ties & (ties.cumsum(0) <= missing))
    return chosen


def check_finite(name: str, weight: Tensor) -> None:
    """Refuses a tensor with NaN or infinity.

    Raises:
        ValueError: If it has any; the message holds ``name``.
    """
    if not torch.isfinite(weight).all():
        raise ValueError(
            f"{name} holds NaN or infinity, so its weights cannot be ranked or frozen: training diverged; "
            "abort_task() gives the task's weights back, then train again with a lower learning rate"
        )


def _score(score: Score, name: str, weight: Tensor) -> Tensor:
    found = score(weight.detach().clone())  # it may work in place
    if not isinstance(found, Tensor) or found.shape != weight.shape or not found.is_floating_point():
        given = f"{found.dtype} {tuple(found.shape)}" if isinstance(found, Tensor) else f"a {type(found).__name__}"
        raise ValueError(
            f"the prune score of {name} is {given}; it must be a float per entry, in the shape {tuple(weight.shape)}"
        )
    if not torch.isfinite(found).all():
        raise ValueError(f"the prune score of {name} holds NaN or infinity; scores must be finite to be ranked")
    return found


@dataclass(frozen=True)
class _Units:
    """What is ranked in one layer, or in all: weights, or whole filters.

    Attributes:
        scores: One per unit.
        owned: Which are the task's (bool).
        eligible: Which of those may be released (bool).
        first: Which go before all others (bool); None if the scores alone decide.
    """

    scores: Tensor
    owned: Tensor
    eligible: Tensor
    first: Tensor | None = None


def _lowest_share(name: str, units: _Units, ratio: float) -> Tensor:
    count = _count_of(name, ratio, int(units.owned.sum()), int(units.eligible.sum()))
    if units.first is None:
        return lowest(units.scores, units.eligible, count)
    early, late = units.eligible & units.first, units.eligible & ~units.first
    before = min(count, int(early.sum()))
    return lowest(units.scores, early, before) | lowest(units.scores, late, count - before)


def _first(units: _Units) -> Tensor:
    return torch.zeros_like(units.eligible) if units.first is None else units.first


def _count_of(name: str, ratio: float, owned: int, most: int) -> int:
    """Returns how many units to release.

    Raises:
        ValueError: If these are more than ``most``.
    """
    count = round(ratio * owned)
    if count > most:
        raise ValueError(
            f"prune ratio {ratio:g} would release {count} weights of {name}, and only {most} can be: its layer divides "
            "each row by its length, so one weight of each must stay, or it would compute NaN; release less, or leave "
            "the weight out with PackNet(..., prunable=...)"
        )
    return count


def _lowest_share_over_all(units: Mapping[str, _Units], ratio: float) -> dict[str, Tensor]:
    device = next(iter(units.values())).scores.device
    exact = torch.float64 if any(part.scores.dtype == torch.float64 for part in units.values()) else torch.float32
    every = _Units(
        torch.cat([part.scores.reshape(-1).to(device, exact) for part in units.values()]),
        torch.cat([part.owned.reshape(-1).to(device) for part in units.values()]),
        torch.cat([part.eligible.reshape(-1).to(device) for part in units.values()]),
        torch.cat([_first(part).reshape(-1).to(device) for part in units.values()])
        if any(part.first is not None for part in units.values())
        else None,
    )
    parts = torch.split(_lowest_share(_ALL, every, ratio), [part.owned.numel() for part in units.values()])
    return {
        name: part.reshape(unit.owned.shape).to(unit.owned.device)
        for (name, unit), part in zip(units.items(), parts, strict=True)
    }
