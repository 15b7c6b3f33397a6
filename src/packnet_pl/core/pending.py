"""Writes to many small tensors, collected and done together: each for itself, calls take the time, not the numbers.

From step to step it is mostly the same tensors in the same memory to which the same is written. What was collected is
then done again as it is.
"""

from collections.abc import Mapping
from operator import is_

import torch
from torch import Tensor

__all__ = ["Pending"]

_KNOW_THEIR_MEMORY = {"cpu", "cuda"}
"""Kinds of devices that have ``Tensor.is_set_to``."""


class Pending:
    """Products and sums of bits, and copies, that are to be done together.

    A copy of it is empty: what it wrote to might not be what the copied module has.
    """

    def __init__(self) -> None:
        self._bits: list[Tensor] = []
        self._masks: list[Tensor] = []
        self._sums: list[Tensor] = []
        self._terms: list[Tensor] = []
        self._memories: set[int] = set()  # of the sums
        self._one_by_one: list[tuple[Tensor, Tensor, Tensor]] = []
        self._copied: list[Tensor] = []
        self._values: list[Tensor] = []
        self._names: list[str] = []
        self._tensors: list[Tensor] = []
        self._seen: list[Tensor] = []
        self._dtypes: list[torch.dtype] = []

    def __reduce__(self) -> tuple[type["Pending"], tuple[()]]:
        return Pending, ()

    def add(self, bits: Tensor, mask: Tensor, values: Tensor | None = None) -> None:
        """Adds ``bits = bits * mask + values``, in place."""
        if values is not None:
            memory = bits.untyped_storage().data_ptr()
            if memory in self._memories:  # what is tied through views would get its values twice
                self._one_by_one.append((bits, mask, values))
                return
            self._memories.add(memory)
            self._sums.append(bits)
            self._terms.append(values)
        self._bits.append(bits)
        self._masks.append(mask)

    def copy(self, tensor: Tensor, values: Tensor) -> None:
        """Adds ``tensor = values``, in place."""
        self._copied.append(tensor)
        self._values.append(values)

    def do_(self) -> None:
        """Does all of it."""
        if self._bits:
            torch._foreach_mul_(self._bits, self._masks)
        if self._sums:
            torch._foreach_add_(self._sums, self._terms)
        for bits, mask, values in self._one_by_one:
            bits.mul_(mask).add_(values)
        if self._copied:
            torch._foreach_copy_(self._copied, self._values)

    def remembers(self, tensors: Mapping[str, Tensor | None]) -> bool:
        """Remembers that this is all there was to be done to ``tensors``; False if something was done otherwise."""
        found = [tensor for tensor in tensors.values() if tensor is not None]
        num_done = len(self._bits) + len(self._one_by_one) + len(self._copied)
        if num_done != len(tensors) or any(tensor.is_inference() for tensor in found):
            return False
        if not all(tensor.device.type in _KNOW_THEIR_MEMORY for tensor in found):
            return False
        self._names, self._tensors = list(tensors), found
        # They keep the memory in use, so that nothing else can come to lie there.
        self._seen = [tensor.detach() for tensor in found]
        self._dtypes = [tensor.dtype for tensor in found]
        return True

    def is_for(self, tensors: Mapping[str, Tensor | None]) -> bool:
        """Returns whether the same is to be done to ``tensors``: they are those remembered, and in the same memory."""
        found = list(tensors.values())
        return (
            list(tensors) == self._names
            and all(map(is_, found, self._tensors))
            and all(map(Tensor.is_set_to, self._tensors, self._seen))
            and [tensor.dtype for tensor in self._tensors] == self._dtypes
        )
