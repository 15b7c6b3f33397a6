"""What is different in a run whose network is sharded: who calls what, and where the network is."""

import torch

from packnet_pl.run.artifacts import is_main
from packnet_pl.training import MultiHeadClassifier
from packnet_pl.training.sharding import is_sharded

__all__ = ["place_", "takes_part"]


def takes_part(model: MultiHeadClassifier) -> bool:
    """Returns whether this process has to count, compute and gather: the main one, or all if the network is sharded."""
    return is_main() or is_sharded(model)


def place_(model: MultiHeadClassifier, device: torch.device | str) -> None:
    """Moves a network; one that is sharded stays on the devices of its processes."""
    if not is_sharded(model):
        model.to(device)
