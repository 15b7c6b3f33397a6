"""Widens a backbone: the arguments of its builder for the same network with more channels."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from packnet_pl.choices import check_growth
from packnet_pl.models.builders import build_backbone

__all__ = ["wider_backbone", "wider_builder"]

_TORCHVISION = ("vgg", "resnet", "wide_resnet")
"""Families whose channels stay the leading ones when there are more: no groups, concatenation or norm over channels."""


def wider_builder(builder: Mapping[str, Any] | None, factor: float) -> dict[str, Any]:
    """Returns the name and arguments of a backbone that is ``factor`` times as wide.

    Widths are rounded; each layer of ``vgg_small``, and each stage of ``resnet20``, gets at least one channel more,
    those of torchvision multiples of 8.

    Args:
        builder: Name and arguments, as the ``builder`` of a backbone says; None if it has none.
        factor: Above 1.

    Raises:
        ValueError: If the factor is not allowed, or the network cannot grow; it says why.
    """
    factor = check_growth(factor)
    if builder is None:
        raise ValueError("the network says in no builder how it was made: grow it with PackNet.grow(wider, ...)")
    name, arguments = builder["name"], dict(builder["arguments"])
    if name == "vgg_small":
        stages = [[_wider(width, factor) for width in stage] for stage in arguments["stages"]]
        arguments |= {"stages": stages, "hidden": _wider(arguments["hidden"], factor)}
    elif name == "resnet20":
        arguments["width"] = _wider(max(1, round(16 * arguments["width"])), factor) / 16
    elif name == "torchvision" and arguments["name"].startswith(_TORCHVISION):
        arguments["width"] *= factor
    else:
        what = arguments.get("name", name)
        raise ValueError(
            f"{name}'s {what} cannot grow; vgg_small, resnet20 and torchvision's VGG and ResNet can. "
            "Others have one width, or channels that are concatenated, in groups, or normalised together, which would "
            "not stay at their places"
        )
    return {"name": name, "arguments": arguments}


def wider_backbone(backbone: nn.Module, factor: float) -> nn.Module:
    """Returns a new backbone, with random weights from the global generator, that is ``factor`` times as wide.

    Args:
        backbone: From a builder.
        factor: Above 1.

    Raises:
        ValueError: As :func:`wider_builder`.
    """
    builder: Any = getattr(backbone, "builder", None)
    with torch.device("cpu"):
        return build_backbone(wider_builder(builder, factor))


def _wider(width: int, factor: float) -> int:
    return max(width + 1, round(width * factor))
