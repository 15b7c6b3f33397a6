"""The families of torchvision's networks in one table: names of their layers, smallest image, other widths."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from torch import Tensor, nn

from packnet_pl.models.backbones.torchvision_narrow import (
    narrow_convnext,
    narrow_densenet,
    narrow_resnet,
    narrow_vgg,
    narrow_vit,
)

__all__ = ["FAMILIES", "Family", "family_of", "torchvision_names"]


def _kaiming_out(weight: Tensor) -> None:
    nn.init.kaiming_normal_(weight, mode="fan_out", nonlinearity="relu")


def _vit_filters(weight: Tensor) -> None:
    nn.init.trunc_normal_(weight, std=weight[0].numel() ** -0.5)


@dataclass(frozen=True)
class Family:
    """Networks of one kind: a row of :data:`FAMILIES`.

    Attributes:
        prefixes: How their names begin.
        first: Name of the first convolution.
        last: Name of the output layer, a linear one.
        fill: Gives the first convolution's weight random values, as the family does.
        narrow: Builds another width, from the original on the meta device, the width and the image size; None if the
            family has one width only.
        small_stem: Kernel, stride and padding of the first convolution for small images; None leaves it.
        pool: Name of the pooling that is left out for small images.
        smallest: Least height and width of an image in pixels.
        patches: Whether it is built for one size of images, a multiple of its ``patch_size``.
        renamed: Pattern and replacement for names of tensors in torchvision's own files that are older than its code.
    """

    prefixes: tuple[str, ...]
    first: str
    last: str
    fill: Callable[[Tensor], Any] = _kaiming_out
    narrow: Callable[[Any, float, int], nn.Module] | None = None
    small_stem: tuple[int, int, int] | None = None
    pool: str | None = None
    smallest: int = 1
    patches: bool = False
    renamed: tuple[str, str] | None = None


FAMILIES: tuple[Family, ...] = (
    Family(prefixes=("vgg",), first="features.0", last="classifier.6", narrow=narrow_vgg, smallest=32),
    Family(
        prefixes=("resnet", "resnext", "wide_resnet"),
        first="conv1",
        last="fc",
        narrow=narrow_resnet,
        small_stem=(3, 1, 1),
        pool="maxpool",
    ),
    Family(
        prefixes=("densenet",),
        first="features.conv0",
        last="classifier",
        fill=nn.init.kaiming_normal_,
        narrow=narrow_densenet,
        small_stem=(3, 1, 1),
        pool="features.pool0",
        smallest=8,
        # "denselayer1.norm.1.weight" is "denselayer1.norm1.weight" today.
        renamed=(r"(denselayer\d+\.(?:norm|conv))\.(\d\.)", r"\1\2"),
    ),
    Family(prefixes=("vit",), first="conv_proj", last="heads.head", fill=_vit_filters, narrow=narrow_vit, patches=True),
    Family(
        prefixes=("convnext",),
        first="features.0.0",
        last="classifier.2",
        fill=partial(nn.init.trunc_normal_, std=0.02),
        narrow=narrow_convnext,
        small_stem=(2, 2, 0),
        smallest=16,
    ),
)
"""The networks of torchvision that can be built: a new family is one row."""


def torchvision_names() -> list[str]:
    """Returns the names that ``torchvision_backbone`` takes: VGG, ResNet, DenseNet, ViT and ConvNeXt."""
    from torchvision import models

    prefixes = tuple(prefix for family in FAMILIES for prefix in family.prefixes)
    return [name for name in models.list_models(module=models) if name.startswith(prefixes)]


def family_of(name: str) -> Family:
    """Returns the row of :data:`FAMILIES` for a network, by one of :func:`torchvision_names`."""
    return next(family for family in FAMILIES if name.startswith(family.prefixes))
