"""What scores of gradients have added up over the steps of a task."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from packnet_pl.core.gradients import dense
from packnet_pl.core.scores import GradientScore, misfit
from packnet_pl.core.shards import Processes, own_part, processes_of
from packnet_pl.core.slots import Slot, wholes_in

__all__ = ["Accumulators"]


@dataclass(frozen=True, eq=False)
class Accumulators:
    """The sums of one score, which never change: each step makes new ones.

    Attributes:
        score: Name of the score.
        sums: Parameter name -> sum (float32 or float64, the weight's shape); without what has had no gradient yet.
    """

    score: str
    sums: Mapping[str, Tensor] = field(default_factory=dict)

    @torch.no_grad()
    def after_step(
        self, score: GradientScore, slots: Mapping[str, Slot], of: Iterable[Tensor] | None = None
    ) -> "Accumulators":
        """Returns the sums after one more step; the same ones if a gradient is not finite, as no step follows then.

        Args:
            score: The one that these are of.
            slots: Name -> slot of each weight, with the gradient that the optimizer is to see.
            of: The parameters of that optimizer; None is all.

        Raises:
            ValueError: If the score is another, or returns something else than a float per entry.
        """
        if score.name != self.score:
            raise ValueError(f"prune score {score.name} was given, but {self.score} was added up in this task so far")
        stepped = None if of is None else {id(parameter) for parameter in of}
        weights = {
            name: weight for name, weight in wholes_in(slots).items() if stepped is None or id(weight) in stepped
        }
        gradients = {n: dense(own_part(weight.grad)) for n, weight in weights.items() if weight.grad is not None}
        if not _are_finite(gradients.values(), processes_of(weights.values())):
            return self
        found = {n: self._updated(score, n, own_part(weights[n]), gradient) for n, gradient in gradients.items()}
        return Accumulators(self.score, {**self.sums, **found})

    def of(self, name: str, weight: Tensor) -> Tensor:
        """Returns the sum of a weight, on its device: zeros if it has had no gradient."""
        total = self.sums.get(name)
        return _zeros(weight) if total is None else total.to(weight.device)

    def _updated(self, score: GradientScore, name: str, weight: Tensor, gradient: Tensor) -> Tensor:
        total = self.of(name, weight)
        new = score(total, weight.detach().to(total.dtype), gradient.to(total.dtype))
        given = misfit(new, weight.shape)
        if given is not None:
            raise ValueError(
                f"prune score {score.name} made {given} of {name}; it must return a float per entry, in the shape "
                f"{tuple(weight.shape)}"
            )
        return new


def _zeros(weight: Tensor) -> Tensor:
    exact = torch.float64 if weight.dtype == torch.float64 else torch.float32
    return torch.zeros(weight.shape, dtype=exact, device=weight.device)


def _are_finite(gradients: Iterable[Tensor], processes: Processes | None) -> bool:
    """Returns whether no entry is NaN or infinite, in any process; a GPU is waited for once."""
    largest = [torch.linalg.vector_norm(gradient, torch.inf) for gradient in gradients if gradient.numel()]
    finite = [torch.isfinite(value).to(largest[0].device) for value in largest]
    here = not finite or bool(torch.stack(finite).all())
    return here if processes is None else not processes.any(not here)
