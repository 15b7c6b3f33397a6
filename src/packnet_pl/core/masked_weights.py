"""Lets weights have other values for a forward and backward pass: some entries are zero, and restored after it.

Gradients pass straight through: that of an entry that was zero is what it would be if the entry were its own to change.
"""

from collections.abc import Mapping

import torch
from torch import Tensor

from packnet_pl.core.bits import as_integers

__all__ = ["MaskedWeights", "switch_off_"]


@torch.no_grad()
def switch_off_(weights: Mapping[str, Tensor], unused: Mapping[str, Tensor]) -> None:
    """Sets entries to zero, all bits of them.

    Args:
        weights: Name -> weight.
        unused: Name of some of them -> which entries (bool, the weight's shape, on its device).
    """
    for name, entries in unused.items():
        as_integers(weights[name]).mul_(~entries)


class MaskedWeights:
    """Sets entries of weights to zero, until their true values are restored."""

    def __init__(self) -> None:
        self._true: list[tuple[Tensor, Tensor]] = []

    @torch.inference_mode(False)
    def show_(self, weights: Mapping[str, Tensor], unused: Mapping[str, Tensor]) -> None:
        """Sets entries to zero; arguments as for :func:`switch_off_`."""
        self._true = [(weights[name], weights[name].detach().clone()) for name in unused]
        switch_off_(weights, unused)
        # Autocast keeps low-precision copies of weights, which would outlive the change.
        torch.clear_autocast_cache()

    @torch.inference_mode(False)
    @torch.no_grad()
    def restore_(self) -> None:
        """Restores the true values, to the bit; does nothing if no others are shown."""
        if not self._true:
            return
        for weight, value in self._true:
            weight.detach().copy_(value)
        self._true = []
        torch.clear_autocast_cache()
