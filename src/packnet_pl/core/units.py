"""What is ranked in one layer when a task is pruned: its weights, or whole filters."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from packnet_pl.core.selection import Candidates

__all__ = ["Units"]


@dataclass(frozen=True)
class Units:
    """What is ranked in one layer: weights, or whole filters.

    Attributes:
        candidates: Those that may be released.
        owned: How many are the task's.
        eligible: How many of them may be released.
        first: Which go before all others (bool); None if the scores alone decide.
        released: How many the task has released before.
    """

    candidates: Candidates
    owned: int
    eligible: int
    first: Tensor | None
    released: int = 0

    def early(self, *, late: bool = False) -> Candidates:
        """Returns the candidates that go before all others, or those others."""
        eligible = self.candidates.groups == self.candidates.group
        if self.first is None:
            return replace(self.candidates, groups=eligible if late else torch.zeros_like(eligible), group=1)
        return replace(self.candidates, groups=eligible & (~self.first if late else self.first), group=1)
