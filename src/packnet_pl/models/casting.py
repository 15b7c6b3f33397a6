"""Casts images to the precision that a network computes in: half, single or double."""

import torch
from torch import Tensor, nn

__all__ = ["as_input", "input_type"]


def input_type(network: nn.Module) -> torch.dtype | None:
    """Returns the type of the images that ``network`` takes: that of its first weight; None if it has none.

    Tensors with fewer than two dimensions do not count: norms and scales may be kept in another type than the weights
    that multiply images.
    """
    return next((p.dtype for p in network.parameters() if p.ndim > 1 and p.is_floating_point()), None)


def as_input(images: Tensor, network: nn.Module) -> Tensor:
    """Returns ``images`` in the type that ``network`` takes; integers stay what they are.

    Lightning does the same in its own passes with ``precision="bf16-true"``, ``"16-true"`` and ``"64-true"``.
    """
    wanted = input_type(network)
    return images.to(wanted) if wanted is not None and images.is_floating_point() else images
