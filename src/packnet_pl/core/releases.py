"""Chooses the weights that a task releases: exactly ``round(ratio * owned)`` of them, the lowest scores first."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from torch import Tensor

from packnet_pl.core.accumulators import Accumulators
from packnet_pl.core.directions import last_entries
from packnet_pl.core.filters import filter_norms, filter_sums, owned_filters, spread_filters
from packnet_pl.core.finite import check_all_finite, check_finite, is_finite
from packnet_pl.core.loops import are_many
from packnet_pl.core.ownership import FREE, count_owned
from packnet_pl.core.pruning import ALL_LAYERS, PruneRule, check_sharded_rule, count_to_release, count_units
from packnet_pl.core.rows import untrained
from packnet_pl.core.scores import GradientScore, WeightScore, magnitude, misfit
from packnet_pl.core.selection import Candidates, lowest
from packnet_pl.core.sharded_releases import lowest_share_of_all
from packnet_pl.core.shards import processes_of
from packnet_pl.core.slots import Slot, tensors_in, wholes_in
from packnet_pl.core.state import State
from packnet_pl.core.units import Units

__all__ = ["choose_releases", "releases_of"]


def releases_of(state: State, slots: Mapping[str, Slot], ratio: float, rule: PruneRule) -> dict[str, Tensor]:
    """Chooses the weights that the open task of ``state`` gives up; all else is as for :func:`choose_releases`."""
    number, again = state.open_number("prune"), state.phase == "retrain"
    ranks = state.trained_rows, state.accumulators
    return choose_releases(slots, state.owners, number, ratio, rule, *ranks, again=again)


def choose_releases(
    slots: Mapping[str, Slot],
    owners: Mapping[str, Tensor],
    task: int,
    ratio: float,
    rule: PruneRule,
    trained_rows: Mapping[str, Tensor] | None = None,
    accumulators: Accumulators | None = None,
    *,
    again: bool = False,
) -> dict[str, Tensor]:
    """Chooses the weights that a task gives up (paper, section 3.1, "Pruning").

    Where a layer divides a row by its length (:mod:`packnet_pl.core.directions`), the best entry of the row is passed
    over if the row would be nothing but zeros without it, and the next lowest is released instead.

    Args:
        slots: Name -> slot of each weight. Where they are sharded, every process must call it alike.
        owners: Name -> owner map (uint8, the weight's shape, or that of this process's part).
        task: Number of the task.
        ratio: Share to release, in [0, 1).
        rule: How.
        trained_rows: Name of a table -> which of its rows the task trained (bool); others are released first.
        accumulators: What a score of gradients has added up.
        again: Whether the task was pruned before: the share is of what it owns and of what is free, which it released.

    Returns:
        Name -> which entries to release (bool, the weight's shape).

    Raises:
        ValueError: If a weight or score is not finite, a score of gradients has seen none, or ``rule`` releases filters
            and one is owned in part, or the outputs of a layer are not known, or fewer may be released than ``ratio``
            says, or more were before.
    """
    weights, processes = tensors_in(slots), processes_of(wholes_in(slots).values())
    if processes is not None:
        check_sharded_rule(rule)
        check_all_finite(weights, processes)
    if rule.score is not magnitude or rule.granularity != "weight":
        # Where weights are their own scores, they are checked as such.
        for name, weight in weights.items():
            check_finite(name, weight)
    of_filter = "norm" if rule.gradient_score is None else rule.gradient_score.of_filter
    many = are_many(weights.values())
    score_of = _scores(rule, weights, accumulators)
    if processes is not None and rule.gradient_score is not None:
        # Or one process alone would refuse, and the others wait for it.
        sums = {f"the prune score of {name}": score_of(name)(weight) for name, weight in weights.items()}
        check_all_finite(sums, processes)

    def units(name: str) -> Units:
        rows = (trained_rows or {}).get(name)
        rows = None if rows is None else rows.to(weights[name].device)
        if rule.granularity == "weight":
            found = _single_weights(score_of(name), name, slots[name], owners[name], task, rows)
        else:
            found = _filters(score_of(name), name, slots[name], owners[name], task, rows, of_filter)
        released = count_units(name, slots[name], owners[name], FREE, rule.granularity) if again else 0
        return replace(found, released=released)

    if processes is not None:
        found = {name: units(name) for name in weights}
        return lowest_share_of_all(found, ratio, rule.scope, processes, many=many)
    if rule.scope == "layer":
        chosen = {name: _lowest_share(name, [units(name)], ratio, many=many)[0] for name in weights}
    else:
        of_all = _lowest_share(ALL_LAYERS, [units(name) for name in weights], ratio, many=many)
        chosen = dict(zip(weights, of_all, strict=True))
    if rule.granularity == "weight":
        return chosen
    return {name: spread_filters(name, slots[name], chosen[name], weight.shape) for name, weight in weights.items()}


def _single_weights(score: WeightScore, name: str, slot: Slot, owner: Tensor, task: int, rows: Tensor | None) -> Units:
    weight, owned = slot.now.detach(), count_owned(owner, task)
    # The paper's score needs no memory of its own.
    scores = None if score is magnitude else _scored(score, name, weight)
    candidates = Candidates(name, weight if scores is None else scores, owner, task, by_magnitude=scores is None)
    first = None if rows is None else untrained(rows, weight.shape)
    kept = last_entries(slot, owner, task, scores)
    if kept is None:
        return Units(candidates, owned, owned, first)
    eligible = replace(candidates, groups=(owner == task) & ~kept, group=1)
    return Units(eligible, owned, owned - int(kept.sum()), first)


def _filters(
    score: WeightScore, name: str, slot: Slot, owner: Tensor, task: int, rows: Tensor | None, of_filter: str
) -> Units:
    filters = owned_filters(name, slot, owner == task)
    scores = _scored(score, name, slot.now.detach())
    worth = filter_norms(name, slot, scores) if of_filter == "norm" else filter_sums(name, slot, scores)
    owned = int(filters.sum())
    return Units(Candidates(name, worth, filters), owned, owned, None if rows is None else ~rows)


def _scores(
    rule: PruneRule, weights: Mapping[str, Tensor], accumulators: Accumulators | None
) -> Callable[[str], WeightScore]:
    """Returns name -> the score of that weight: the rule's, or what it has added up."""
    score = rule.score
    if not isinstance(score, GradientScore):
        return lambda _: score
    if accumulators is None or not accumulators.sums or accumulators.score != score.name:
        found = "none was" if accumulators is None or not accumulators.sums else f"those of {accumulators.score} were"
        raise ValueError(
            f"prune score {score.name} adds up gradients of each step, and {found} added up in this task: call "
            "PackNet.accumulate_(score) before each mask_gradients_(), as PackNetCallback does, and train a step "
            "at least"
        )
    return lambda name: lambda _: accumulators.of(name, weights[name])


def _scored(score: WeightScore, name: str, weight: Tensor) -> Tensor:
    found = score(weight.clone())  # it may work in place
    given = misfit(found, weight.shape)
    if given is not None:
        raise ValueError(
            f"the prune score of {name} is {given}; it must be a float per entry, in the shape {tuple(weight.shape)}"
        )
    if not is_finite(found):
        raise ValueError(f"the prune score of {name} holds NaN or infinity; scores must be finite to be ranked")
    return found


def _lowest_share(name: str, layers: Sequence[Units], ratio: float, *, many: bool) -> list[Tensor]:
    """Chooses ``ratio`` of what the task owns in these layers together."""
    count = count_to_release(
        name,
        ratio,
        owned=sum(units.owned for units in layers),
        most=sum(units.eligible for units in layers),
        released=sum(units.released for units in layers),
    )
    if all(units.first is None for units in layers):
        return lowest([units.candidates for units in layers], count, many=many)
    early, late = [units.early() for units in layers], [units.early(late=True) for units in layers]
    before = min(count, sum(count_owned(candidates.groups, 1) for candidates in early))
    sooner, later = lowest(early, before, many=many), lowest(late, count - before, many=many)
    return [one | other for one, other in zip(sooner, later, strict=True)]
