"""torchvision's classification networks by name, without their last layer, also for small images and at any width."""

import os
from typing import Any

import torch
from torch import nn

from packnet_pl.choices import nearest_of_many
from packnet_pl.models.arguments import check_in_channels, check_patches
from packnet_pl.models.backbones.torchvision_families import Family, family_of, torchvision_names
from packnet_pl.models.backbones.torchvision_weights import default_size, load_torchvision_weights

__all__ = ["SMALL_IMAGE", "torchvision_backbone"]

SMALL_IMAGE = 64
"""Up to this height and width in pixels, a stem made for 224 pixels is replaced by one that keeps more of them."""


def torchvision_backbone(
    name: str,
    *,
    in_channels: int = 3,
    image_size: int | None = None,
    width: float = 1.0,
    pretrained: bool | str | os.PathLike[str] = False,
) -> nn.Module:
    """Returns a torchvision network without its last layer, with torchvision's own names of parameters.

    With ``width=1`` and the usual stem, the features followed by the removed layer are, to the bit, what the original
    puts out. Images of up to 64 pixels get a stem of their own: ResNet and DenseNet a 3 x 3 convolution of stride 1
    and no pooling, ConvNeXt patches of 2 x 2 instead of 4 x 4 pixels; VGG and ViT stay as they are.

    Args:
        name: One of :func:`torchvision_names`.
        in_channels: Channels of an image. Other than 3, the first convolution is made anew.
        image_size: Height and width of an image in pixels: for VGG at least 32, DenseNet 8, ConvNeXt 16; for ViT a
            multiple of the patch size. None is what the pretrained weights were trained on, or 224.
        width: Scales the channels, above 0, to multiples of 8 (ViT: number of heads); 1 is the original.
        pretrained: False, True for torchvision's default weights (from its cache, or downloaded), the name of others
            that it has ("IMAGENET1K_V1"), or a file with the original's state dict (.pth, .pt or .safetensors), whose
            last layer is left out. Loads all of the network, but: a small stem's first convolution stays random, for
            ``in_channels=1`` the filters are summed over their channels, and ViT's position embeddings are
            interpolated to ``image_size``.

    Returns:
        The network, with ``num_features`` and ``builder`` (name and arguments to build it again, with random weights);
        with pretrained weights also ``pretrained_head``: weight and bias of the removed layer, or None without them.

    Raises:
        OSError: If there is no such file, or the weights can be had neither from the cache nor from the net.
        ValueError: If an argument is not allowed, or the weights are another network's.
    """
    known = torchvision_names()
    if name not in known:
        listed = nearest_of_many(name, known)
        raise ValueError(f"torchvision has no backbone {name!r}; {listed}; timm_backbone has more")
    family = family_of(name)
    wants_weights = pretrained is not False
    image_size = default_size(name, pretrained) if image_size is None else image_size
    check_in_channels(in_channels, pretrained=wants_weights)
    if image_size < family.smallest:
        raise ValueError(f"image_size is {image_size}; {name} takes images of at least {family.smallest} pixels")
    if not 0 < width < float("inf"):
        raise ValueError(f"width is {width}; allowed is a number above 0 (1 is torchvision's network)")
    if width != 1 and family.narrow is None:
        raise ValueError(f"width is {width}; {name} comes in one width only: give width=1")
    if wants_weights and width != 1:
        raise ValueError(f"width is {width} and pretrained {pretrained!r}; pretrained weights fit width=1 only")
    net: Any = _build(name, family, image_size, width)
    net.num_features = net.get_submodule(family.last).in_features
    net.set_submodule(family.last, nn.Identity())
    small_stem = family.small_stem if image_size <= SMALL_IMAGE else None
    if in_channels != 3 or small_stem is not None:
        _replace_stem(net, family, in_channels, small_stem)
    if wants_weights:
        # A plain attribute: the classifier belongs to a task, and is no part of the backbone's state.
        net.pretrained_head = load_torchvision_weights(net, name, pretrained, family, fresh_stem=small_stem is not None)
    arguments = {"name": name, "in_channels": in_channels, "image_size": image_size, "width": width}
    net.builder = {"name": "torchvision", "arguments": arguments}
    network: nn.Module = net
    return network


def _build(name: str, family: Family, image_size: int, width: float) -> nn.Module:
    from torchvision import models

    with torch.device("meta"):
        original: Any = models.get_model(name, weights=None)
    if family.patches:
        check_patches(name, image_size, original.patch_size)
    if width != 1 and family.narrow is not None:
        return family.narrow(original, width, image_size)
    net: nn.Module = models.get_model(name, weights=None, **({"image_size": image_size} if family.patches else {}))
    return net


def _replace_stem(net: nn.Module, family: Family, in_channels: int, small: tuple[int, int, int] | None) -> None:
    old: Any = net.get_submodule(family.first)
    kernel, stride, padding = small or (old.kernel_size, old.stride, old.padding)
    first = nn.Conv2d(in_channels, old.out_channels, kernel, stride, padding, bias=old.bias is not None)
    family.fill(first.weight)
    if first.bias is not None:
        nn.init.zeros_(first.bias)
    net.set_submodule(family.first, first)
    if small is not None and family.pool is not None:
        net.set_submodule(family.pool, nn.Identity())
