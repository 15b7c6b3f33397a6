"""torchvision's classification networks by name, without their last layer, also for small images and at any width."""

import os
from typing import Any

import torch
from torch import nn

from packnet_pl.choices import nearest_of_many
from packnet_pl.models.arguments import check_grid, check_in_channels, check_patches
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
    transform_input: bool | None = None,
) -> nn.Module:
    """Returns a torchvision network without its last layer, with torchvision's own names of parameters.

    With ``width=1`` and the usual stem, the features followed by the removed layer are, to the bit, what the original
    puts out; SqueezeNet's layer comes before ReLU and pooling, and its features are pooled without it. GoogLeNet and
    Inception are built without their auxiliary heads. Images of up to 64 pixels get a stem of their own: ResNet and
    DenseNet a 3 x 3 convolution of stride 1 and no pooling, ConvNeXt patches of 2 x 2 instead of 4 x 4 pixels; the
    others stay as they are.

    Args:
        name: One of :func:`torchvision_names`.
        in_channels: Channels of an image. Other than 3, the first convolution is made anew.
        image_size: Height and width of an image in pixels: for VGG at least 32, DenseNet 8, ConvNeXt 16, AlexNet 63,
            Inception 75 and so on; for ViT a multiple of the patch size, for MaxViT of 224. None is what the pretrained
            weights were trained on, or 224.
        width: Scales the channels, above 0, to multiples of 8 (ViT: number of heads); 1 is the original. AlexNet,
            EfficientNet, GoogLeNet, Inception, MaxViT, RegNet, SqueezeNet and Swin have one width only.
        pretrained: False, True for torchvision's default weights (from its cache, or downloaded), the name of others
            that it has ("IMAGENET1K_V1"), or a file with the original's state dict (.pth, .pt or .safetensors), whose
            last layer is left out. Loads all of the network, but: a small stem's first convolution stays random, for
            ``in_channels=1`` the filters are summed over their channels, and ViT's position embeddings are
            interpolated to ``image_size``.
        transform_input: Of GoogLeNet and Inception, whether the network normalises images again, from ImageNet's mean
            and standard deviation to 0.5, as torchvision's weights for them expect. None: with pretrained weights and 3
            channels.

    Returns:
        The network, with ``num_features`` and ``builder`` (name and arguments to build it again, with random weights);
        with pretrained weights also ``pretrained_head``: weight and bias of the removed layer, or None without them, or
        if that layer does not take the features.

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
    transform_input = _transform_input(name, family, transform_input, in_channels, pretrained=wants_weights)
    net: Any = _build(name, family, image_size, width)
    last: Any = net.get_submodule(family.last)
    net.num_features = last.in_channels if isinstance(last, nn.Conv2d) else last.in_features
    net.set_submodule(family.last, nn.Identity())
    small_stem = family.small_stem if image_size <= SMALL_IMAGE else None
    if in_channels != 3 or small_stem is not None:
        _replace_stem(net, family, in_channels, small_stem)
    if wants_weights:
        # A plain attribute: the classifier belongs to a task, and is no part of the backbone's state.
        net.pretrained_head = load_torchvision_weights(net, name, pretrained, family, fresh_stem=small_stem is not None)
    arguments = {"name": name, "in_channels": in_channels, "image_size": image_size, "width": width}
    if transform_input:
        net.transform_input = True
        arguments["transform_input"] = 1  # arguments in a packed file are names and numbers
    net.builder = {"name": "torchvision", "arguments": arguments}
    network: nn.Module = net
    return network


def _build(name: str, family: Family, image_size: int, width: float) -> nn.Module:
    from torchvision import models

    is_narrow = family.narrow is not None and (width != 1 or family.always_narrow)
    if is_narrow or family.patches:
        with torch.device("meta"):
            original: Any = models.get_model(name, weights=None)
        if family.patches:
            check_patches(name, image_size, original.patch_size)
        if is_narrow and family.narrow is not None:
            return family.narrow(original, width, image_size)
    sized: dict[str, Any] = {"image_size": image_size} if family.patches else {}
    if family.grid:
        check_grid(name, image_size, family.grid)
        sized = {"input_size": (image_size, image_size)}
    net: nn.Module = models.get_model(name, weights=None, **family.settings, **sized)
    return net


def _transform_input(name: str, family: Family, given: bool | None, in_channels: int, *, pretrained: bool) -> bool:
    """Returns whether the network normalises images again.

    Raises:
        ValueError: If it is to, and cannot.
    """
    possible = family.transforms_input and in_channels == 3
    if given and not possible:
        raise ValueError(
            f"transform_input is {given}; {name} with {in_channels} channels has no such step: leave it out"
        )
    return possible and pretrained if given is None else given


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
