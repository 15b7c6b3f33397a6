"""How a task is pruned: by which score, within what, in which units; and what is checked of it."""

from dataclasses import dataclass
from functools import partial

from torch import Tensor

from packnet_pl.choices import GRANULARITIES, SCHEDULES, SCOPES, Granularity, Schedule, Scope, check_choice
from packnet_pl.core.directions import last_entries
from packnet_pl.core.filters import owned_filters
from packnet_pl.core.inventory import Inventory
from packnet_pl.core.ownership import FREE, count_owned
from packnet_pl.core.scores import GradientScore, Score, magnitude
from packnet_pl.core.slots import Slot
from packnet_pl.core.state import State

__all__ = ["ALL_LAYERS", "PruneRule", "check_rule", "check_sharded_rule", "count_to_release", "count_units", "rule_of"]

ALL_LAYERS = "all layers"
"""In place of a layer's name."""


@dataclass(frozen=True)
class PruneRule:
    """How a task is pruned: by which score, within what, and what is released as a whole.

    Attributes:
        score: What a weight is worth: a function such as :func:`packnet_pl.core.magnitude`, from a layer's weight to
            one finite score per entry, or a :class:`packnet_pl.core.GradientScore`, as ``packnet_pl.core.taylor`` is.
        scope: "layer" counts and ranks in each layer (the paper's), "global" over all layers together.
        granularity: "weight" releases single weights (the paper's), "filter" whole output channels by the L2 norm of
            their scores; the prune ratio is then a share of the task's filters.
        schedule: "oneshot" prunes a task once (the paper's); "gradual" may prune it on in phase "retrain", as
            :class:`packnet_pl.PackNetCallback` does by :mod:`packnet_pl.core.gradual`; "learned" computes with the best
            weights alone from the first step of phase "train" on: see :meth:`packnet_pl.PackNet.learn_pruning`.

    Raises:
        ValueError: If a choice is not allowed.
    """

    score: Score = magnitude
    scope: Scope = "layer"
    granularity: Granularity = "weight"
    schedule: Schedule = "oneshot"

    def __post_init__(self) -> None:
        if not callable(self.score):
            raise ValueError(f"prune score is {self.score!r}; it takes a function of a layer's weight")
        if isinstance(self.score, partial) and not self.score.args and not self.score.keywords:
            object.__setattr__(self, "score", self.score.func)  # how configurations name a function
        check_choice("prune scope", self.scope, SCOPES, {"layer": "the paper's"})
        notes: dict[Granularity, str] = {"weight": "the paper's", "filter": "output channels"}
        check_choice("prune granularity", self.granularity, GRANULARITIES, notes)
        check_choice("prune schedule", self.schedule, SCHEDULES, {"oneshot": "the paper's"})
        if self.schedule == "learned" and self.gradient_score is not None:
            raise ValueError(
                f"prune schedule 'learned' ranks weights from the first step on, when prune score "
                f"{self.gradient_score.name} has seen no gradient: prune by magnitude, or take another schedule"
            )

    @property
    def gradient_score(self) -> GradientScore | None:
        """The score, if it adds up over the steps of training."""
        return self.score if isinstance(self.score, GradientScore) else None


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
    if inventory.processes is not None:
        check_sharded_rule(rule)
        return  # nothing divides a row by its length there, so any share can be released
    for name, owner in state.owners.items():
        slot = inventory.owned[name]
        kept = last_entries(slot, owner, number) if rule.granularity == "weight" else None
        units = count_units(name, slot, owner, number, rule.granularity)
        counts[name] = units, 0 if kept is None else int(kept.sum())
    if rule.scope == "global":
        counts = {ALL_LAYERS: (sum(owned for owned, _ in counts.values()), sum(stay for _, stay in counts.values()))}
    for name, (owned, stay) in counts.items():
        count_to_release(name, ratio, owned, owned - stay)


def check_sharded_rule(rule: PruneRule) -> None:
    """Checks that a network whose rows are divided among processes can be pruned by ``rule``.

    Raises:
        ValueError: If it needs a whole weight.
    """
    if rule.granularity != "weight":
        raise ValueError(
            f"prune granularity {rule.granularity!r} was given for a sharded network, in which single weights are "
            "ranked only: prune with granularity='weight', or train it in one process or with DDP"
        )
    if rule.score is not magnitude and rule.gradient_score is None:
        name = getattr(rule.score, "__name__", rule.score)
        raise ValueError(
            f"prune score {name} makes its scores from a whole weight, and in a sharded network no process has one: "
            "prune by magnitude, or by a GradientScore such as packnet_pl.core.taylor"
        )


def count_units(name: str, slot: Slot, owner: Tensor, task: int, granularity: Granularity) -> int:
    """Returns how many weights, or whole filters, of a layer a task owns (1 to 255), or are free (0).

    Args:
        name: Of the weight, for the message.
        slot: Of the weight.
        owner: Its owner map (uint8, the weight's shape).
        task: Number of the task, or 0.
        granularity: What is counted.

    Raises:
        ValueError: If a filter is the task's in part, or the outputs of the layer are not known.
    """
    if granularity == "weight":
        return count_owned(owner, task)
    return int(owned_filters(name, slot, owner == task).sum())


def count_to_release(name: str, ratio: float, owned: int, most: int, released: int = 0) -> int:
    """Returns how many units to release.

    Args:
        name: Of the layer, for the message.
        ratio: Share of all that the task has owned, in [0, 1).
        owned: How many units it owns.
        most: How many of them may be released.
        released: How many it has released before.

    Raises:
        ValueError: If these are more than ``most``, or more were released before.
    """
    count = round(ratio * (owned + released)) - released
    if count < 0:
        raise ValueError(
            f"prune ratio {ratio:g} was given, but {released:,} of {owned + released:,} weights of {name} were "
            "released before: pruning on, the ratio is a share of all that the task had, and rises"
        )
    if count > most:
        raise ValueError(
            f"prune ratio {ratio:g} would release {count + released} weights of {name}, and only {most + released} can "
            "be: its layer divides each row by its length, so one weight of each must stay, or it would compute NaN; "
            "release less, or leave the weight out with PackNet(..., prunable=...)"
        )
    return count
