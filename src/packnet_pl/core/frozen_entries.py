"""The entries of one weight that a task may not change: their gradients masked, their bits restored.

All is done on the bits of the numbers: a product with a float mask turns inf * 0 into NaN, and ``masked_fill_`` and
``torch.where`` branch at each entry on a CPU. Integers are multiplied exactly, in any memory layout and on any device.
"""

import torch
from torch import Tensor

from packnet_pl.core.bits import as_integers
from packnet_pl.core.compact_entries import CompactEntries
from packnet_pl.core.loops import in_memory_order
from packnet_pl.core.ownership import FREE, trainable
from packnet_pl.core.pending import Pending
from packnet_pl.core.slots import conversion_error

__all__ = ["FrozenEntries"]

_SMALL = 1 << 16


class FrozenEntries:
    """Freezes what one task does not own of a weight: other tasks' entries at their bits, free entries at zero.

    Args:
        weight: As it is to be frozen.
        owner: Its owner map; of the same shape.
        number: The task that may change its own entries.
        compiles: Whether there are so many weights that compiled loops are worth it.
        known: Entries of the same weight, in which other tasks own the same.

    Attributes:
        is_empty: Whether the task owns every entry.
        compact: What compiled loops freeze; None where they do not run.
    """

    def __init__(
        self, weight: Tensor, owner: Tensor, number: int, *, compiles: bool, known: "FrozenEntries | None" = None
    ) -> None:
        self._owner, self._number, self._dtype = owner, number, weight.dtype
        arrays = in_memory_order(weight, owner) if compiles else None
        self.compact: CompactEntries | None = None
        self._mine: Tensor | None = None  # where compiled loops do not run: a mask, and values at full length
        self._values: Tensor | None = None
        if arrays is not None:
            self.compact = CompactEntries(weight, arrays[0], owner, number, known.compact if known else None)
            self.is_empty = self.compact.is_empty
        else:
            mine = self._mask_on(owner.device)
            self.is_empty = bool(mine.all())
            others = (owner != number) & (owner != FREE)
            if bool(others.any()):  # the mask makes free ones zero
                self._values = as_integers(weight) * others

    def masked(self, grad: Tensor, pending: Pending) -> Tensor:
        """Returns ``grad`` with exact zeros in frozen entries, once ``pending`` is done; a new one if it is sparse."""
        if self.compact is not None and self.compact.mask_(grad):
            return grad
        mine = self._mask_on(grad.device)
        if grad.layout == torch.strided:
            pending.add(as_integers(grad), mine)
            return grad
        grad = grad.coalesce()
        values = grad.values().clone()
        as_integers(values).mul_(mine[tuple(grad.indices())])
        return torch.sparse_coo_tensor(grad.indices(), values, grad.shape, is_coalesced=True)

    def restore_(self, name: str, weight: Tensor, pending: Pending) -> None:
        """Restores the bits of all frozen entries in ``weight``, once ``pending`` is done.

        Args:
            name: What it is called in errors.
            weight: It may have been moved to another device, or laid out anew.
            pending: Gets what is left to be done.

        Raises:
            RuntimeError: If it has another type or shape than the weight that was frozen.
        """  # noqa: DOC501
        if weight.dtype != self._dtype or weight.shape != self._owner.shape:
            raise conversion_error(name, weight, self._dtype, self._owner.shape)
        if self.compact is not None:
            if self.compact.restore_(weight):
                return
            self._values, self.compact = self.compact.expanded(), None
        mine = self._mask_on(weight.device)
        if self._values is not None and self._values.device != mine.device:
            self._values = self._values.to(mine.device)
        pending.add(as_integers(weight), mine, self._values)

    def _mask_on(self, device: torch.device) -> Tensor:
        if self._mine is None or self._mine.device != device:
            mine = trainable(self._owner, self._number).to(device)
            # Of one type with the bits it needs no conversion, which is worth its memory where there are few.
            is_small = mine.numel() < _SMALL
            self._mine = mine.to(as_integers(torch.empty(0, dtype=self._dtype)).dtype) if is_small else mine
        return self._mine
