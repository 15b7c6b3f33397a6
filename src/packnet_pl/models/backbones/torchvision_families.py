"""The families of torchvision's networks in one table: names of their layers, images that they take, other widths."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
from packnet_pl.models.backbones.torchvision_narrow_mobile import (
    narrow_mnasnet,
    narrow_mobilenet_v2,
    narrow_mobilenet_v3,
    narrow_shufflenet,
)

__all__ = ["FAMILIES", "Family", "family_of", "torchvision_names"]


_Fill = Callable[[Tensor], Any]

# How families give convolutions their random values.
_kaiming_out: _Fill = partial(nn.init.kaiming_normal_, mode="fan_out", nonlinearity="relu")
_usual: _Fill = partial(nn.init.kaiming_uniform_, a=5**0.5)  # torch's own


def _vit_filters(weight: Tensor) -> None:
    nn.init.trunc_normal_(weight, std=weight[0].numel() ** -0.5)


@dataclass(frozen=True)
class Family:
    """Networks of one kind: a row of :data:`FAMILIES`.

    Attributes:
        prefixes: How their names begin.
        first: Name of the first convolution.
        last: Name of the output layer, a linear one or a 1 x 1 convolution.
        fill: Gives the first convolution's weight random values, as the family does.
        narrow: Builds another width, from the original on the meta device, the width and the image size; None if the
            family has one width only.
        always_narrow: Whether it builds width 1 too.
        settings: Arguments of torchvision's builder.
        small_stem: Kernel, stride and padding of the first convolution for small images; None leaves it.
        pool: Name of the pooling that is left out for small images.
        smallest: Least height and width of an image in pixels.
        patches: Whether it is built for one size of images, a multiple of its ``patch_size``.
        grid: Height and width of an image have to be a multiple of it, and are given to the builder; 0: they need not.
        renamed: Pattern and replacement for names of tensors in torchvision's own files that are older than its code.
        auxiliary: Names of further heads in torchvision's own files, which are left out.
        transforms_input: Whether its pretrained weights expect that the network normalises images again, from
            ImageNet's mean and standard deviation to 0.5.
        pools_logits: Whether something comes behind the output layer, so that it is no layer of pooled features.
        bias: Whether the output layer has one, as the heads of tasks have.
    """

    prefixes: tuple[str, ...]
    first: str
    last: str
    fill: _Fill = _kaiming_out
    narrow: Callable[[Any, float, int], nn.Module] | None = None
    always_narrow: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    small_stem: tuple[int, int, int] | None = None
    pool: str | None = None
    smallest: int = 1
    patches: bool = False
    grid: int = 0
    renamed: tuple[str, str] | None = None
    auxiliary: tuple[str, ...] = ()
    transforms_input: bool = False
    pools_logits: bool = False
    bias: bool = True


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
    Family(prefixes=("alexnet",), first="features.0", last="classifier.6", fill=_usual, smallest=63),
    Family(
        prefixes=("squeezenet1_0",),
        first="features.0",
        last="classifier.1",
        fill=nn.init.kaiming_uniform_,
        smallest=21,
        pools_logits=True,
    ),
    Family(
        prefixes=("squeezenet1_1",),
        first="features.0",
        last="classifier.1",
        fill=nn.init.kaiming_uniform_,
        smallest=17,
        pools_logits=True,
    ),
    Family(
        prefixes=("googlenet",),
        first="conv1.conv",
        last="fc",
        fill=partial(nn.init.trunc_normal_, std=0.01),
        settings={"aux_logits": False, "init_weights": True},
        smallest=15,
        auxiliary=("aux1", "aux2"),
        transforms_input=True,
    ),
    Family(
        prefixes=("inception_v3",),
        first="Conv2d_1a_3x3.conv",
        last="fc",
        fill=partial(nn.init.trunc_normal_, std=0.1),
        settings={"aux_logits": False, "init_weights": True},
        smallest=75,
        auxiliary=("AuxLogits",),
        transforms_input=True,
    ),
    Family(prefixes=("mobilenet_v2",), first="features.0.0", last="classifier.1", narrow=narrow_mobilenet_v2),
    Family(prefixes=("mobilenet_v3",), first="features.0.0", last="classifier.3", narrow=narrow_mobilenet_v3),
    Family(prefixes=("mnasnet",), first="layers.0", last="classifier.1", narrow=narrow_mnasnet, always_narrow=True),
    Family(prefixes=("shufflenet",), first="conv1.0", last="fc", fill=_usual, narrow=narrow_shufflenet),
    Family(prefixes=("efficientnet",), first="features.0.0", last="classifier.1"),
    Family(prefixes=("regnet",), first="stem.0", last="fc"),
    Family(prefixes=("swin",), first="features.0.0", last="head", fill=_usual, smallest=4),
    Family(
        prefixes=("maxvit",),
        first="stem.0.0",
        last="classifier.5",
        fill=partial(nn.init.normal_, std=0.02),
        grid=224,
        bias=False,
    ),
)
"""The networks of torchvision that can be built: a new family is one row."""


def torchvision_names() -> list[str]:
    """Returns the names that ``torchvision_backbone`` takes: those of all networks that classify images."""
    from torchvision import models

    prefixes = tuple(prefix for family in FAMILIES for prefix in family.prefixes)
    return [name for name in models.list_models(module=models) if name.startswith(prefixes)]


def family_of(name: str) -> Family:
    """Returns the row of :data:`FAMILIES` for a network, by one of :func:`torchvision_names`."""
    return next(family for family in FAMILIES if name.startswith(family.prefixes))
