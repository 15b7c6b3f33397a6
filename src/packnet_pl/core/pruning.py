"""Which of a task's weights to release: exactly ``round(ratio * owned)`` of them, the smallest magnitudes first."""

from collections.abc import Mapping
from numbers import Real
from typing import Literal, get_args

import torch
from torch import Tensor

__all__ = [
    "Granularity",
    "Scope",
    "check_finite",
    "check_granularity",
    "check_ratio",
    "check_scope",
    "choose_releases",
    "lowest",
]

Scope = Literal["layer", "global"]
Granularity = Literal["weight", "filter"]


def check_ratio(ratio: float) -> float:
    """Returns ``ratio`` as a float.

    Raises:
        ValueError: If it is not a number in [0, 1).
    """
    if isinstance(ratio, bool) or not isinstance(ratio, Real) or not 0 <= float(ratio) < 1:
        hint = ""
        if isinstance(ratio, Real) and not isinstance(ratio, bool) and 1 < ratio < 100:
            hint = f": for {ratio:g} percent write {ratio / 100:g}"
        raise ValueError(f"prune ratio is {ratio!r}; allowed is a fraction in [0, 1), the share that is released{hint}")
    return float(ratio)


def check_scope(scope: Scope) -> Scope:
    """Returns ``scope``.

    Raises:
        ValueError: If it is neither "layer" nor "global".
    """
    if scope not in get_args(Scope):
        raise ValueError(f"prune scope is {scope!r}; allowed are 'layer' (the paper's) and 'global'")
    return scope


def check_granularity(granularity: Granularity) -> Granularity:
    """Returns ``granularity``.

    Raises:
        ValueError: If it is neither "weight" nor "filter".
    """
    if granularity not in get_args(Granularity):
        raise ValueError(
            f"prune granularity is {granularity!r}; allowed are 'weight' (the paper's) and 'filter' (output channels)"
        )
    return granularity


def check_finite(name: str, weight: Tensor) -> None:
    """Does nothing for a tensor without NaN and infinity.

    Raises:
        ValueError: Otherwise; the message holds ``name``.
    """
    if not torch.isfinite(weight).all():
        raise ValueError(
            f"{name} holds NaN or infinity, so its weights cannot be ranked or frozen: training diverged; "
            "abort_task() gives the task's weights back, then train again with a lower learning rate"
        )


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


def choose_releases(
    weights: Mapping[str, Tensor], eligible: Mapping[str, Tensor], ratio: float, scope: Scope = "layer"
) -> dict[str, Tensor]:
    """Chooses the weights that a task gives up (paper, section 3.1, "Pruning").

    Args:
        weights: Name -> weights.
        eligible: Name -> bool of the same shape: the weights the task owns.
        ratio: Share to release, in [0, 1).
        scope: "layer" ranks each layer by itself, as the paper does; "global" ranks all layers together.

    Returns:
        Name -> bool mask of the weights to release.

    Raises:
        ValueError: If a weight is not finite.
    """
    for name, weight in weights.items():
        check_finite(name, weight)
    if scope == "layer":
        return {
            name: lowest(weight.detach().abs(), eligible[name], round(ratio * int(eligible[name].sum())))
            for name, weight in weights.items()
        }
    first = next(iter(weights.values()))
    exact = torch.float64 if any(w.dtype == torch.float64 for w in weights.values()) else torch.float32
    scores = torch.cat([w.detach().abs().reshape(-1).to(first.device, exact) for w in weights.values()])
    mine = torch.cat([eligible[name].reshape(-1).to(first.device) for name in weights])
    chosen = lowest(scores, mine, round(ratio * int(mine.sum())))
    parts = torch.split(chosen, [w.numel() for w in weights.values()])
    return {
        name: part.reshape(weight.shape).to(weight.device)
        for (name, weight), part in zip(weights.items(), parts, strict=True)
    }
