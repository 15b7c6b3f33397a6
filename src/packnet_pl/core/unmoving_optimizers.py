"""Which optimizers leave an entry of a weight alone, to the bit, whose gradient and whose state are zero.

Each row was read from torch's code and is held by a test: the update is a product with the gradient or with the state,
and added, so it is a zero of the sign that changes no number. What is not here is restored after each step:

- weight decay, ``maximize`` (its zero turns -0.0 into 0.0), an ``eps`` that the type of the weight rounds to zero;
- fused kernels, which raise no version, so that a single write of somebody else would pass for theirs;
- ASGD, which decays; Rprop and Adamax, whose state is not zero; Muon, LBFGS, Adafactor, SparseAdam, which do not work
  entry by entry; and every class that is not exactly one of these.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import optim

__all__ = ["writes_per_step"]


@dataclass(frozen=True)
class _Kind:
    """An optimizer: how often a step writes to a weight, and whether it divides by a root to which eps is added."""

    writes: int
    divides: bool = True


_KINDS: dict[type[optim.Optimizer], _Kind] = {
    optim.SGD: _Kind(1, divides=False),
    optim.Adam: _Kind(1),
    optim.AdamW: _Kind(1),
    optim.RAdam: _Kind(1),
    optim.NAdam: _Kind(2),
    optim.RMSprop: _Kind(1),
    optim.Adagrad: _Kind(1),
    optim.Adadelta: _Kind(1),
}

_SHARES = ("momentum", "dampening", "alpha", "rho")  # in [0, 1], as far as a kind has them
_OTHER_UPDATES = ("maximize", "differentiable", "capturable", "fused")


def writes_per_step(optimizer: optim.Optimizer, group: dict[str, Any], dtype: torch.dtype) -> int | None:
    """Returns how often a step writes to a weight in whose frozen entries it moves nothing; None if it may.

    Args:
        optimizer: Its class is looked at, and whether a scaler of gradients takes part.
        group: Of its parameters, with the settings.
        dtype: Of the weight.
    """
    kind = _KINDS.get(type(optimizer))
    if kind is None or any(getattr(optimizer, scaled, None) is not None for scaled in ("grad_scale", "found_inf")):
        return None
    if any(group.get(name) for name in _OTHER_UPDATES) or not _is_in(group["weight_decay"], 0, 0):
        return None
    if not all(_is_in(group.get(name, 0), 0, 1) for name in _SHARES):
        return None
    if not all(isinstance(beta, float) and 0 <= beta < 1 for beta in group.get("betas", ())):
        return None
    if not _is_in(group["lr"], 0, 1e6):
        return None
    is_small = kind.divides and not _is_in(group["eps"], torch.finfo(dtype).tiny, 1e6)
    return None if is_small else kind.writes


def _is_in(value: object, lowest: float, highest: float) -> bool:
    """Returns whether it is a number, no tensor, between two bounds (included)."""
    return isinstance(value, int | float) and math.isfinite(value) and lowest <= value <= highest
