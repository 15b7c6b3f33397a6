"""Averaged weights in a checkpoint: what may not move is not averaged either."""

from typing import Any

import pytorch_lightning as pl
import torch

from packnet_pl.core import PackNet
from packnet_pl.core.prunable import plain_name
from packnet_pl.core.verification import private_tensors

__all__ = ["keep_in_average"]


def keep_in_average(packnet: PackNet, pl_module: pl.LightningModule, state_dict: dict[str, Any]) -> None:
    """Gives everything that the open task may not change its own bits in ``state_dict``: an average rounds.

    Args:
        packnet: With an open task.
        pl_module: Has the weights as they are.
        state_dict: Of ``pl_module``, with averaged weights; entries are replaced, not written to.
    """
    keys = {id(tensor): key for key, tensor in pl_module.state_dict(keep_vars=True).items()}
    shared = {plain_name(key): tensor for key, tensor in packnet.module.state_dict(keep_vars=True).items()}
    number = len(packnet.tasks) + 1
    for name, owner in packnet.owners.items():
        weight, key = shared[name].detach(), keys[id(shared[name])]
        state_dict[key] = torch.where(owner == number, state_dict[key].to(weight.device), weight)
    fixed = [shared[name] for name in packnet.summary().frozen] if packnet.tasks else []
    names = [name for task in packnet.tasks for name in packnet.private.get(task, [])]
    for tensor in [*fixed, *private_tensors(pl_module, names).values()]:
        state_dict[keys[id(tensor)]] = tensor.detach().clone()
