"""Learns which weights of earlier tasks a task computes with: real-valued scores, and a threshold.

Sources: Mallya, Davis & Lazebnik, "Piggyback: Adapting a Single Network to Multiple Tasks by Learning to Mask Weights",
ECCV 2018, section 3 (masks over a frozen network, straight-through gradients); Hung et al., "Compacting, Picking and
Growing for Unforgetting Continual Learning", NeurIPS 2019 (beside weights of the task's own: "picking").
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.optim import Adam, Optimizer

from packnet_pl.core.finite import is_finite
from packnet_pl.core.gradients import dense
from packnet_pl.core.ownership import visible
from packnet_pl.core.shards import is_shard, localized, own_part, processes_of, with_shards

__all__ = ["LearnedMask", "MaskScores", "mask_of"]


@dataclass(frozen=True)
class LearnedMask:
    """How a task learns which weights of earlier tasks it uses: each has a score, and is used unless that is below 0.

    Attributes:
        init: Score that each begins with, above 0: all are used.
        lr: Learning rate of the scores, above 0. What counts is its ratio to ``init``.
        scheduled: Whether that rate follows the schedule of the weights' optimizer in a fit: it has the same factor.
        optimizer: Takes the scores (a list of tensors) and ``lr``, returns their optimizer. The gradient of a score is
            that of the weight, whether it is used or not, times the weight.

    Raises:
        ValueError: If ``init`` or ``lr`` is not a finite number above 0, or ``optimizer`` cannot be called.
    """

    init: float = 1.0
    lr: float = 0.3
    scheduled: bool = True
    optimizer: Callable[..., Optimizer] = Adam

    def __post_init__(self) -> None:
        for name, given in (("init", self.init), ("lr", self.lr)):
            is_number = isinstance(given, (int, float)) and not isinstance(given, bool)
            if not is_number or not 0 < given < math.inf:
                raise ValueError(f"mask {name} is {given!r}; allowed is a finite number above 0")
        if not callable(self.optimizer):
            raise ValueError(f"mask optimizer is {self.optimizer!r}; it takes a function of a list of scores")


def mask_of(given: "LearnedMask | str | None") -> LearnedMask | None:
    """Returns how a task learns its mask; None if it uses all weights of earlier tasks.

    Args:
        given: "all" or None, "learned" for the usual settings, or the settings.

    Raises:
        ValueError: If it is something else.
    """
    if given is None or given == "all":
        return None
    if given == "learned":
        return LearnedMask()
    if not isinstance(given, LearnedMask):
        raise ValueError(
            f"mask is {given!r}; allowed are 'all' (weights of earlier tasks), 'learned' (a subset), LearnedMask(...)"
        )
    return given


class MaskScores:
    """The scores of earlier tasks' weights, and their optimizer.

    Args:
        values: Name of each weight of which earlier tasks own something -> scores (float32, its shape), sharded if it
            is.

    Attributes:
        values: As given; changed in place.
    """

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        self.values = dict(values)
        self._optimizer: Optimizer | None = None
        self._optimizer_state: dict[str, Any] | None = None
        self._rule: LearnedMask | None = None
        self._earlier: dict[str, tuple[Tensor, Tensor]] = {}  # owner map -> which weights earlier tasks own
        self._are_due = False

    @classmethod
    def new(cls, weights: Mapping[str, Tensor], init: float) -> "MaskScores":
        """Returns scores that all are ``init``, in the memory layout of the weights."""
        return cls(
            {name: torch.full_like(weight.detach(), init, dtype=torch.float32) for name, weight in weights.items()}
        )

    def learn_by(self, rule: LearnedMask, weights: Mapping[str, Tensor]) -> None:
        """Gives the scores an optimizer, with the state that was loaded, and moves them beside their weights."""
        self.values = {name: score.detach().to(weights[name].device) for name, score in self.values.items()}
        if not self.values:
            return
        self._rule, self._optimizer = rule, rule.optimizer(list(self.values.values()), lr=rule.lr)
        if self._optimizer_state is not None:
            self._optimizer.load_state_dict(self._optimizer_state)
            self._optimizer_state = None

    def unused(self, owners: Mapping[str, Tensor], number: int) -> dict[str, Tensor]:
        """Returns name -> entries (bool) that are not used, maybe none; of sharded weights, this process's rows.

        Args:
            owners: Name -> owner map (uint8) beside the weight.
            number: The open task's, 2 to 255.
        """
        return {
            name: (own_part(score).to(owners[name].device) < 0) & self._owned_earlier(name, owners[name], number)
            for name, score in self.values.items()
        }

    def schedule_(self, factor: float) -> None:
        """Sets the rate to ``factor`` times what it begins with, if it is to follow a schedule."""
        if self._rule is not None and self._rule.scheduled and self._optimizer is not None:
            for group in self._optimizer.param_groups:
                group["lr"] = self._rule.lr * factor

    @torch.no_grad()
    def take_gradients(self, weights: Mapping[str, Tensor], owners: Mapping[str, Tensor], number: int) -> None:
        """Takes the gradients of the scores from those of the weights, before these are masked.

        Args:
            weights: Name -> weight, whole or sharded, with its true values.
            owners: As for :meth:`unused`.
            number: As for :meth:`unused`.
        """
        for name, score in self.values.items():
            weight = weights[name]
            grad = weight.grad
            if grad is None:
                score.grad = None
                continue
            earlier = self._owned_earlier(name, owners[name], number)
            own = dense(own_part(grad)).float().mul(own_part(weight).detach()).mul_(earlier)
            if score.grad is None:
                score.grad = torch.empty_like(score)
            own_part(score.grad).copy_(own)
        self._are_due = True

    def step_(self) -> None:
        """Steps the optimizer, if there are new gradients and they are finite: those that overflowed teach nothing.

        Of sharded weights, every process must call it alike.
        """
        if not self._are_due or self._optimizer is None:
            return
        self._are_due = False
        finite = all(is_finite(own_part(score.grad)) for score in self.values.values() if score.grad is not None)
        processes = processes_of(self.values.values())
        if not (processes.any(not finite) if processes is not None else not finite):
            self._optimizer.step()

    @torch.no_grad()
    def load_values_(self, values: Mapping[str, Tensor]) -> None:
        """Sets the scores, in place."""
        for name, value in values.items():
            own_part(self.values[name]).copy_(own_part(value))

    def dump(self) -> dict[str, Any]:
        """Returns scores and optimizer state: tensors and primitives."""
        optimizer = self._optimizer.state_dict() if self._optimizer is not None else self._optimizer_state
        return {"scores": {name: score.detach() for name, score in self.values.items()}, "optimizer": optimizer}

    @classmethod
    def parse(cls, dumped: Any, weights: Mapping[str, Tensor]) -> "MaskScores":
        """Returns what :meth:`dump` returned.

        Args:
            dumped: The dict.
            weights: Name -> weight, whole or sharded; so may be what was dumped.

        Raises:
            ValueError: If it does not belong to these weights.
        """
        scores = dumped.get("scores") if isinstance(dumped, Mapping) else None
        if not isinstance(scores, Mapping) or set(dumped) != {"scores", "optimizer"}:
            raise ValueError("PackNet state: its mask is learned, and it has no scores and optimizer")
        for name, score in scores.items():
            shape = weights[name].shape if name in weights else None
            if not isinstance(score, Tensor) or score.dtype != torch.float32 or score.shape != shape:
                raise ValueError(f"PackNet state: the mask scores of {name} are not one float32 per weight")
        found = cls({name: _sharded_as(score, weights[name]) for name, score in scores.items()})
        found._optimizer_state = _optimizer_in_shards(dumped["optimizer"], [weights[name] for name in scores])
        return found

    @torch.inference_mode(False)
    def _owned_earlier(self, name: str, owner: Tensor, number: int) -> Tensor:
        """Returns which weights (bool) earlier tasks own; found once per owner map, as none is changed in place."""
        known = self._earlier.get(name)
        if known is None or known[0] is not owner:
            known = self._earlier[name] = owner, visible(owner, number - 1)
        return known[1]


def _sharded_as(tensor: Tensor, weight: Tensor) -> Tensor:
    return with_shards(localized(tensor, weight), weight)


def _optimizer_in_shards(state: Any, weights: Sequence[Tensor]) -> Any:
    """Returns an optimizer's state in which all that has a weight's shape is sharded as that is.

    Args:
        state: As ``state_dict()`` returned it; None without.
        weights: In the order of the optimizer's parameters.
    """
    if not any(map(is_shard, weights)) or state is None:
        return state

    def changed(value: Any, weight: Tensor) -> Any:
        return _sharded_as(value, weight) if getattr(value, "shape", None) == weight.shape else value

    moments = state["state"].items()
    found = {number: {key: changed(of, weights[number]) for key, of in own.items()} for number, own in moments}
    return {**state, "state": found}
