"""What the open task does not compute with, although the module has it: learned step by step, or fixed by pruning.

Source of learning what to prune together with the weights: Wortsman, Farhadi & Rastegari, "Discovering Neural Wirings",
NeurIPS 2019, section 3: in each step only the best weights take part, and all of them get gradients.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from packnet_pl.core.directions import divides_by_length
from packnet_pl.core.learned_mask import LearnedMask, MaskScores
from packnet_pl.core.masked_weights import MaskedWeights
from packnet_pl.core.ownership import visible
from packnet_pl.core.packed_bits import pack_mask
from packnet_pl.core.pruning import PruneRule
from packnet_pl.core.releases import choose_releases
from packnet_pl.core.sharded_masks import names_with_entries
from packnet_pl.core.shards import processes_of
from packnet_pl.core.slots import Slot, tensors_in, wholes_in
from packnet_pl.core.state import State

__all__ = ["OpenMask"]


@dataclass
class OpenMask:
    """The mask of the open task: while it is learned, scores of what earlier tasks own; after that, the state has it.

    Attributes:
        scores: None while no mask over earlier tasks' weights is learned.
        pruning: Prune ratio and rule by which the task's own weights are ranked in each step; None while all count.
        is_shown: Whether the module is shown now as the open task computes with it.
    """

    scores: MaskScores | None = None
    pruning: tuple[float, PruneRule] | None = None
    is_shown: bool = field(default=False, init=False)
    _masked: MaskedWeights = field(default_factory=MaskedWeights, init=False, repr=False)

    @classmethod
    def parse(cls, dumped: Mapping[str, Any], weights: Mapping[str, Tensor]) -> "OpenMask":
        """Returns what is learned in a dumped state.

        Args:
            dumped: The state, with what :meth:`dump` returned.
            weights: Name -> weight that is divided among tasks, whole or sharded.

        Raises:
            ValueError: If it does not belong to these weights.
        """
        return cls(MaskScores.parse(dumped["learning"], weights) if "learning" in dumped else None)

    @property
    def values(self) -> dict[str, Tensor]:
        """Name -> scores of a weight (not copied), while they are learned; else empty."""
        return {} if self.scores is None else self.scores.values

    def load_values_(self, values: Mapping[str, Tensor]) -> None:
        """Sets the scores, in place, to what :attr:`values` was before."""
        if self.scores is not None:
            self.scores.load_values_(values)

    def schedule_(self, factor: float) -> None:
        """Sets the rate of the scores to ``factor`` times their own, for the next step."""
        if self.scores is not None:
            self.scores.schedule_(factor)

    def learn(self, rule: LearnedMask, slots: Mapping[str, Slot], state: State) -> None:
        """Begins to learn the mask of the open task, or goes on after a checkpoint was loaded.

        What a layer divides by its length is used whole: a row without an entry would be 0 / 0.

        Args:
            rule: How.
            slots: Name -> slot of each weight that is divided among tasks.
            state: With the open task, in phase "train".

        Raises:
            ValueError: If the network has grown.
        """
        number = state.open_number("learn_mask")
        if state.shapes:
            raise ValueError(
                f"cannot learn the mask of {state.open_task!r}: the network has grown, and masks fit one width only"
            )
        weights = wholes_in(slots)
        if self.scores is None:
            whole = [name for name, slot in slots.items() if divides_by_length(slot)]
            earlier = {name: visible(state.owners[name], number - 1) for name in slots if name not in whole}
            names = names_with_entries(earlier, processes_of(weights.values()))
            self.scores = MaskScores.new({name: weights[name] for name in names}, rule.init)
        self.scores.learn_by(rule, weights)

    def is_needed(self, state: State) -> bool:
        """Returns whether the open task of ``state`` does not compute with all weights that are there."""
        return bool(self.values) or self.pruning is not None or (state.open_task or "") in state.masks

    @contextmanager
    def shown(self, slots: Mapping[str, Slot], state: State) -> Iterator[None]:
        """Shows weights as the open task computes with them, in place; restores their true values at the end.

        Args:
            slots: Name -> slot of each weight that is divided among tasks.
            state: Of the tasks.
        """
        try:
            self.is_shown = True
            self._masked.show_(tensors_in(slots), self.hidden(state, slots))
            yield
        finally:
            self._masked.restore_()
            self.is_shown = False

    def unused(self, state: State) -> dict[str, Tensor]:
        """Returns name -> entries (bool) of earlier tasks that the open task of ``state`` does not use now.

        Of sharded weights, this process's rows, and only those of which it has some.
        """
        if state.open_task is None:
            return {}
        if self.scores is None:
            return state.unused(state.open_task)
        found = self.scores.unused(state.owners, len(state.names))
        return {name: found[name] for name in names_with_entries(found, None)}

    def unused_in_all(self, state: State) -> dict[str, Tensor]:
        """Returns :meth:`unused` with the same names in all processes, which must call it alike."""
        if self.scores is None:
            return self.unused(state)
        found = self.scores.unused(state.owners, len(state.names))
        return {name: found[name] for name in names_with_entries(found, processes_of(self.values.values()))}

    def hidden(self, state: State, slots: Mapping[str, Slot]) -> dict[str, Tensor]:
        """Returns name -> entries (bool) that the open task of ``state`` does not compute with now.

        Args:
            state: Of the tasks.
            slots: Name -> slot of each weight, with its true values.

        Raises:
            ValueError: If its own weights are ranked and one is not finite.
        """
        found = self.unused(state)
        if self.pruning is None or state.open_task is None:
            return found
        ratio, rule = self.pruning
        released = choose_releases(slots, state.owners, len(state.names), ratio, rule, state.trained_rows)
        return {name: entries | found[name] if name in found else entries for name, entries in released.items()}

    def fixed(self, state: State) -> State:
        """Returns the state in which what was learned so far is the open task's mask for good."""
        if self.scores is None:
            return state
        return state.choose({name: pack_mask(entries) for name, entries in self.unused_in_all(state).items()})

    def dump(self) -> dict[str, Any]:
        """Returns what a dumped state has beside the rest while a mask is learned."""
        return {} if self.scores is None else {"learning": self.scores.dump()}
