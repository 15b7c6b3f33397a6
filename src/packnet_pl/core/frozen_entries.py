"""The entries of one weight that a task may not change: their gradients masked, their bits restored.

All is done on the bits of the numbers: a product with a float mask turns inf * 0 into NaN, and ``masked_fill_`` and
``torch.where`` branch at each entry on a CPU. Integers are multiplied exactly, in any memory layout and on any device.
"""

import torch
from torch import Tensor

from packnet_pl.core.bits import as_integers
from packnet_pl.core.ownership import FREE, trainable
from packnet_pl.core.slots import conversion_error

__all__ = ["FrozenEntries"]


class FrozenEntries:
    """Freezes what one task does not own of a weight: other tasks' entries at their bits, free entries at zero.

    Args:
        weight: As it is to be frozen.
        owner: Its owner map; of the same shape.
        number: The task that may change its own entries.

    Attributes:
        is_empty: Whether the task owns every entry.
    """

    def __init__(self, weight: Tensor, owner: Tensor, number: int) -> None:
        bits = as_integers(weight)
        self._dtype = weight.dtype
        self._mine = trainable(owner, number)
        owned = ~self._mine & (owner != FREE)
        # Free entries alone need no values: the mask makes them zero.
        self._values = bits * owned if bool(owned.any()) else None
        self.is_empty = bool(self._mine.all())

    def masked(self, grad: Tensor) -> Tensor:
        """Returns ``grad`` with exact zeros in frozen entries: itself, in place, or a new one if sparse."""
        if grad.layout == torch.strided:
            bits = as_integers(grad)
            bits.mul_(self._mine.to(bits.device))
            return grad
        grad = grad.coalesce()
        values = grad.values().clone()
        as_integers(values).mul_(self._mine.to(grad.device)[tuple(grad.indices())])
        return torch.sparse_coo_tensor(grad.indices(), values, grad.shape, is_coalesced=True)

    def restore_(self, name: str, weight: Tensor) -> None:
        """Restores the bits of all frozen entries in ``weight``.

        Args:
            name: What it is called in errors.
            weight: It may have been moved to another device.

        Raises:
            RuntimeError: If it has another type or shape than the weight that was frozen.
        """  # noqa: DOC501
        if weight.dtype != self._dtype or weight.shape != self._mine.shape:
            raise conversion_error(name, weight, self._dtype, self._mine.shape)
        bits = as_integers(weight)
        if self._mine.device != bits.device:
            self._mine = self._mine.to(bits.device)
            self._values = self._values.to(bits.device) if self._values is not None else None
        bits.mul_(self._mine)
        if self._values is not None:
            bits.bitwise_or_(self._values)
