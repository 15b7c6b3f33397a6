"""Warns of channels that hardly varied in the first task, which norms that all tasks share amplify in later ones."""

import torch

from packnet_pl.core.inventory import Inventory
from packnet_pl.core.unowned import warn_caller
from packnet_pl.counting import counted

__all__ = ["warn_of_silent_channels"]


def warn_of_silent_channels(inventory: Inventory, task: str) -> None:
    """Says, as the second task begins, by how much frozen running statistics would amplify what it sends through them.

    A filter whose weights were all pruned gives a channel whose variance is 0. Batch-norm in eval mode divides by
    sqrt(variance + eps), so what a later task's weights put there comes out several hundred times as large, and its
    training may collapse.

    Args:
        inventory: The tensors of the shared module.
        task: The task that begins.
    """
    found = []
    for name, slot in inventory.frozen.items():
        eps, variance = getattr(slot.layer, "eps", None), slot.found
        if slot.key != "running_var" or not isinstance(eps, float) or variance is None:
            continue
        silent = variance < eps
        if silent.any():
            weight = getattr(slot.layer, "weight", None)
            scale = torch.ones_like(variance) if weight is None else weight.detach().abs()
            factor = (scale / (variance + eps).sqrt())[silent].max()
            found.append((name.rpartition(".")[0], int(silent.sum()), silent.numel(), float(factor)))
    if found:
        layer, count, channels, factor = max(found, key=lambda item: item[3])
        others = f", and {counted(len(found) - 1, 'more layer')} like it" if len(found) > 1 else ""
        warn_caller(
            f"{count} of the {counted(channels, 'channel')} of {layer} hardly varied in the first task (were all "
            f"weights of a filter pruned?){others}: with norms that all tasks share, what task {task!r} and later ones "
            f"send through comes out up to {factor:.0f} times as large, and their training may collapse; "
            "norm='per_task' gives each task norms of its own, which can only be said before the first task; a "
            "lower prune ratio leaves fewer such channels",
        )
