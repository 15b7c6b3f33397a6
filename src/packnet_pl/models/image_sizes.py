"""Finds the sizes of images that a backbone takes, by passing blank ones through it without memory for weights."""

from collections.abc import Mapping
from typing import Any

import torch

from packnet_pl.models.builders import build_backbone
from packnet_pl.models.pretrained_inputs import timm_input
from packnet_pl.models.skeleton import Weightless

__all__ = ["nearest_sizes"]

# Of patches, windows, and strides of all layers together: whatever a size has to be a multiple of.
_STEPS = (2, 4, 7, 8, 14, 16, 28, 32, 48, 56, 64, 112, 128, 224, 256)


def nearest_sizes(builder: Mapping[str, Any], image_size: int) -> list[int]:
    """Returns the nearest sizes of images, in pixels, that a backbone takes if it is built for them.

    Args:
        builder: Name and arguments, as the ``builder`` of a backbone says.
        image_size: Height and width of an image.

    Returns:
        ``image_size`` alone if it takes that; otherwise the nearest below, if any, and above, as far as they are found.
    """
    if _takes(builder, image_size):
        return [image_size]
    own = timm_input(builder["arguments"]["name"]) if builder["name"] == "timm" else None
    usual = {own.image_size} if own is not None else set()
    below = {image_size // step * step for step in _STEPS} - {image_size, 0} | {s for s in usual if s < image_size}
    above = {(image_size // step + 1) * step for step in _STEPS} | {s for s in usual if s > image_size}
    ways = (sorted(below, reverse=True), sorted(above))
    found = (next((size for size in way if _takes(builder, size)), None) for way in ways)
    return [size for size in found if size is not None]


def _takes(builder: Mapping[str, Any], image_size: int) -> bool:
    arguments = {**builder["arguments"], "image_size": image_size}
    try:
        with Weightless(), torch.random.fork_rng(devices=[]):
            net: Any = build_backbone({**builder, "arguments": arguments})
        images = torch.zeros(1, arguments["in_channels"], image_size, image_size, device="meta")
        with torch.no_grad():
            return bool(net.eval().to("meta")(images).shape == (1, net.num_features))
    except Exception:  # networks say in any way what they do not take
        return False
