"""Rows of a table that a task has trained: what it never looked up, it gives up first.

Magnitude says nothing there: the row of a word that no text of the task holds keeps the value that it began with, which
is often the larger one. So of the tables that a task divides (``prunable="all"``), pruning releases rows without a
gradient before any with one, each by the score; counts stay exact.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from packnet_pl.core.shards import own_part
from packnet_pl.core.slots import Slot

__all__ = ["tables_in", "trained_rows", "untrained"]


def tables_in(slots: Mapping[str, Slot]) -> dict[str, Slot]:
    """Returns those of ``slots`` that are the table of an embedding layer, whose rows are looked up one by one."""
    return {name: slot for name, slot in slots.items() if isinstance(slot.used_by, (nn.Embedding, nn.EmbeddingBag))}


def trained_rows(tables: Mapping[str, Slot]) -> dict[str, Tensor]:
    """Returns name -> which rows have a gradient now (bool, one per row); tables without any gradient are left out."""
    found = {}
    for name, slot in tables.items():
        held = slot.whole
        if held.grad is None:
            continue
        grad = own_part(held.grad)
        if grad.layout == torch.strided:
            found[name] = (grad != 0).flatten(1).any(1)
            continue
        grad = grad.coalesce()
        rows = torch.zeros(grad.shape[0], dtype=torch.bool, device=grad.device)
        rows[grad.indices()[0]] = (grad.values() != 0).flatten(1).any(1)
        found[name] = rows
    return found


def untrained(rows: Tensor, shape: torch.Size) -> Tensor:
    """Returns which entries of a table of this ``shape`` are in none of the trained ``rows`` (bool)."""
    return (~rows).reshape(-1, *[1] * (len(shape) - 1)).expand(shape)
