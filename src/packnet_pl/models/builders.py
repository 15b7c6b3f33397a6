"""Builds backbones from the name and arguments that a packed file holds, and puts a head back behind them."""

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from packnet_pl.models.backbones.resnet20 import resnet20
from packnet_pl.models.backbones.timm_backbones import timm_backbone, timm_with_head
from packnet_pl.models.backbones.torchvision_backbones import torchvision_backbone
from packnet_pl.models.backbones.torchvision_families import family_of
from packnet_pl.models.backbones.vgg_small import vgg_small

__all__ = ["BUILDERS", "build_backbone", "with_head"]

BUILDERS: dict[str, Callable[..., nn.Module]] = {
    "resnet20": resnet20,
    "timm": timm_backbone,
    "torchvision": torchvision_backbone,
    "vgg_small": vgg_small,
}
"""The backbones that a packed file may name: a closed list, because opening a file must not run what it names."""


def build_backbone(builder: Mapping[str, Any]) -> nn.Module:
    """Builds a backbone with random weights from the name and arguments that a packed file holds.

    Args:
        builder: ``{"name": ..., "arguments": {...}}``.

    Raises:
        ValueError: If the name is not in :data:`BUILDERS`, or the arguments do not fit.
    """
    name, arguments = builder.get("name"), builder.get("arguments")
    if name not in BUILDERS or not isinstance(arguments, Mapping):
        raise ValueError(f"backbone is {name!r}; this version builds {sorted(BUILDERS)}: give your own as backbone=")
    # A file from elsewhere must not make this machine download or read other files.
    if "pretrained" in arguments:
        raise ValueError(f"backbone {name!r} cannot be built with pretrained weights: the packed file has its own")
    try:
        return BUILDERS[str(name)](**arguments)
    except TypeError as error:
        raise ValueError(f"backbone {name!r} does not take these arguments: {error}") from error


def with_head(backbone: Any, head: nn.Linear) -> nn.Module | None:
    """Returns the network with its last layer where its family has it; ``backbone`` is used up.

    Args:
        backbone: Says in ``builder`` what it is, as those of :data:`BUILDERS` do.
        head: From its features to classes.

    Returns:
        The network, or None if the family has no last layer of its own, or one that is not linear with a bias.
    """
    builder = getattr(backbone, "builder", None) or {}
    if builder.get("name") == "torchvision":
        family = family_of(builder["arguments"]["name"])
        if family.pools_logits or not family.bias:
            return None
        backbone.set_submodule(family.last, head)
        # Neither is true of the whole network.
        del backbone.builder, backbone.num_features
        whole: nn.Module = backbone
        return whole
    return timm_with_head(backbone, head) if builder.get("name") == "timm" else None
