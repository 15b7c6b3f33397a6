"""Any timm network by name, without its last layer; and that layer put back for export."""

import os
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from packnet_pl.choices import nearest_of_many
from packnet_pl.models.arguments import check_in_channels, check_patches
from packnet_pl.models.pretrained import cut_off_head, load_weights, read_weights, without

__all__ = ["timm_backbone", "timm_with_head"]


def timm_backbone(
    name: str,
    *,
    in_channels: int = 3,
    image_size: int | None = None,
    width: float = 1.0,
    pretrained: bool | str | os.PathLike[str] = False,
) -> nn.Module:
    """Returns a network of timm with ``num_classes=0``, with timm's own names of parameters.

    Args:
        name: One of ``timm.list_models()``; a tag such as ``.a1_in1k`` after it chooses pretrained weights.
        in_channels: Channels of an image.
        image_size: Height and width of an image in pixels, for networks that are built for one size (such as ViT);
            others take any and do not use it. None is the size of timm's default weights.
        width: 1: timm's networks have their width in their name.
        pretrained: False, True for timm's weights (from the cache of the Hugging Face hub, or downloaded), or a file
            with the state dict of ``timm.create_model(name)`` (.pth, .pt or .safetensors), whose last layers are left
            out and whose other tensors must all fit. For ``in_channels=1`` the filters are summed over their channels.

    Returns:
        The network, with ``num_features`` and ``builder`` (name and arguments to build it again, with random weights);
        with pretrained weights also ``pretrained_head``: weight and bias of the last layer, or None without them.

    Raises:
        OSError: If there is no such file, or the weights can be had neither from the cache nor from the net.
        ValueError: If an argument is not allowed, or the weights are another network's.
    """
    # Seconds to import, so only for those who ask for it.
    import timm

    _check_name(name)
    check_in_channels(in_channels, pretrained=pretrained is not False)
    if image_size is not None and image_size < 1:
        raise ValueError(f"image_size is {image_size}; allowed is 1 or more pixels, or None")
    if width != 1:
        family = re.match(r"[a-z]+", name)
        pattern = f"{family.group() if family else ''}*"
        raise ValueError(
            f"width is {width}; a timm network's width is part of its name: choose a smaller one of "
            f"timm.list_models({pattern!r}), or torchvision_backbone, which takes a width"
        )
    settings: dict[str, Any] = {}
    try:
        settings = _settings(name, in_channels, image_size)
        net: Any = timm.create_model(name, pretrained=pretrained is True, num_classes=0, **settings)
        # timm throws the classifier away as it loads the weights, so for the head they are loaded once more.
        whole = timm.create_model(name, pretrained=True, **settings) if pretrained is True else None
    except (RuntimeError, TypeError, AssertionError) as error:
        raise ValueError(f"timm cannot build {name} with {settings}, pretrained={pretrained}: {error}") from error
    except Exception as error:
        if not _is_of_the_net(error):
            raise
        raise OSError(
            f"no pretrained weights for {name}: they are not in the cache of the Hugging Face hub and could not be "
            f"downloaded ({' '.join(str(error).split())}); give a file as pretrained=PATH"
        ) from error
    if image_size is not None and (patch := _patch_size(net, built_for_size="img_size" in settings)):
        check_patches(name, image_size, patch)
    # What comes out, which for networks with a hidden layer behind their pooling is not timm's num_features.
    net.num_features = int(getattr(net, "head_hidden_size", None) or net.num_features)
    if whole is not None:
        net.pretrained_head = _head(net, whole.state_dict())
    elif pretrained is not False:
        state = read_weights(str(pretrained))
        net.pretrained_head = _head(net, state)
        _load(net, state, str(pretrained), in_channels)
    arguments = {"name": name, "in_channels": in_channels, "image_size": image_size, "width": 1.0}
    net.builder = {"name": "timm", "arguments": arguments}
    network: nn.Module = net
    return network


def timm_with_head(backbone: Any, head: nn.Linear) -> nn.Module | None:
    """Returns timm's whole network: the weights of ``backbone``, and a last layer with the logits of ``head``.

    None if there is more than a linear layer behind the features, which the backbone does not have.

    A last layer that is a 1 x 1 convolution keeps its names and shapes, and computes as ``head`` does: a convolution
    adds up in another order, and its logits differ in the last bits. Networks with two layers (distilled ones) get the
    same weights twice, as their logits are the mean of both: it differs from the layer of the mean in the last bits.

    Args:
        backbone: What :func:`timm_backbone` returned.
        head: From its features to classes.
    """
    import timm

    arguments = backbone.builder["arguments"]
    settings = _settings(arguments["name"], arguments["in_channels"], arguments["image_size"])
    with torch.random.fork_rng(devices=[]):
        net: Any = timm.create_model(arguments["name"], num_classes=head.out_features, **settings)
    state = dict(backbone.state_dict())
    wanted = {name: tensor.shape for name, tensor in net.state_dict().items()}
    for layer in _names(net.pretrained_cfg.get("classifier")):
        for key, value in head.state_dict().items():
            shape = wanted.get(f"{layer}.{key}", value.shape)
            state[f"{layer}.{key}"] = value.reshape(shape) if shape.numel() == value.numel() else value
    if state.keys() != wanted.keys() or any(state[name].shape != shape for name, shape in wanted.items()):
        return None
    for layer in _names(net.pretrained_cfg.get("classifier")):
        if isinstance(last := net.get_submodule(layer), nn.Conv2d):
            net.set_submodule(layer, _PooledConv2d(last.in_channels, last.out_channels, 1))
    net.to(head.weight).load_state_dict(state)
    network: nn.Module = net
    return network


class _PooledConv2d(nn.Conv2d):
    """A 1 x 1 convolution of pooled maps (N x C x 1 x 1), computed as the fully connected layer that it is."""

    def forward(self, input: Tensor) -> Tensor:
        return functional.linear(input.flatten(1), self.weight.flatten(1), self.bias)[:, :, None, None]


def _settings(name: str, in_channels: int, image_size: int | None) -> dict[str, Any]:
    import timm

    settings: dict[str, Any] = {"in_chans": in_channels}
    if image_size is not None and getattr(timm.get_pretrained_cfg(name), "fixed_input_size", False):
        settings["img_size"] = image_size
    return settings


def _patch_size(net: Any, *, built_for_size: bool) -> int | None:
    """Returns the side in pixels of the patches that images must be cut into as a whole; None if there are none."""
    from timm.layers.patch_embed import PatchEmbed

    if built_for_size:
        patch = getattr(getattr(net, "patch_embed", None), "patch_size", None)
        return patch[0] if isinstance(patch, tuple) else None
    embeds = (layer for layer in net.modules() if isinstance(layer, PatchEmbed))
    strict = (layer for layer in embeds if not (layer.img_size is None or layer.strict_img_size))
    return next((layer.patch_size[0] for layer in strict if not layer.dynamic_img_pad), None)


def _check_name(name: str) -> None:
    import timm

    # timm itself would also take "hf-hub:..." and folders here, and build what a file from there says.
    if ":" in name or "/" in name or not timm.is_model(name):
        listed = nearest_of_many(name, timm.list_models())
        raise ValueError(f"timm has no network {name!r}; {listed}; timm.list_models() has them all")
    if name.partition(".")[0].endswith("_enc"):
        raise ValueError(f"{name} is an encoder that puts out one vector per place of an image; choose a classifier")


def _head(net: Any, state: Mapping[str, Tensor]) -> dict[str, Tensor] | None:
    # Networks with several output layers, as for distillation, have no classifier that could be a task's head.
    last = _names(net.pretrained_cfg.get("classifier"))
    return cut_off_head(state, last[0], net.num_features) if len(last) == 1 else None


def _load(net: Any, state: Mapping[str, Tensor], path: str, in_channels: int) -> None:
    config = net.pretrained_cfg
    state = without(state, _names(config.get("classifier")))
    for layer in _names(config.get("first_conv")):
        weight = state.get(f"{layer}.weight")
        if in_channels == 1 and weight is not None and weight.ndim == 4:
            state[f"{layer}.weight"] = weight.sum(1, keepdim=True)
    load_weights(net, state, source=path)


def _names(given: Any) -> list[str]:
    return [given] if isinstance(given, str) else list(given or [])


def _is_of_the_net(error: Exception) -> bool:
    """Returns whether weights could not be downloaded; errors of httpx, such as a proxy's refusal, are no OSErrors."""
    packages = {kind.__module__.partition(".")[0] for kind in type(error).__mro__}
    return isinstance(error, OSError) or not packages.isdisjoint({"httpx", "httpcore"})
