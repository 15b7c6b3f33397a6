"""Loads torchvision's pretrained weights, fitted to other image sizes, channels and stems."""

import logging
import os
import re
from http.client import HTTPException
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from packnet_pl.models.backbones.torchvision_families import Family, torchvision_names
from packnet_pl.models.pretrained import cut_off_head, load_weights, read_weights, without

__all__ = ["default_size", "load_torchvision_weights", "weights_of"]

_POSITIONS = "encoder.pos_embedding"
_log = logging.getLogger(__name__)


def weights_of(name: str, pretrained: object) -> Any:
    """Returns torchvision's entry of pretrained weights: its metadata say what images they expect.

    Args:
        name: Of the network.
        pretrained: The name of weights; anything else, a file too, counts as the default ones.
    """
    from torchvision import models

    known: Any = models.get_model_weights(name)
    return known[pretrained if isinstance(pretrained, str) and pretrained in known.__members__ else "DEFAULT"]


def default_size(name: str, pretrained: object) -> int:
    """Returns height and width in pixels of the images that a network is built for if nothing else is said.

    Args:
        name: Of the network.
        pretrained: False, or as for :func:`weights_of`.
    """
    if pretrained is False or name not in torchvision_names():
        return 224
    size: int = weights_of(name, pretrained).transforms().crop_size[0]
    return size


def load_torchvision_weights(
    net: Any, name: str, pretrained: bool | str | os.PathLike[str], family: Family, *, fresh_stem: bool
) -> dict[str, Tensor] | None:
    """Loads the original's weights into a network that lost its last layer.

    Args:
        net: The network.
        name: Its name in torchvision.
        pretrained: True for torchvision's default weights, the name of others (IMAGENET1K_V1), or a file with a state
            dict.
        family: Its row; if the first convolution has one input channel and the weights have more, they are summed.
        fresh_stem: Whether the first convolution is another than the original's and keeps its random weights.

    Returns:
        Weight and bias of that output layer; None if they are not there.

    Raises:
        OSError: If there is no such file, or the weights can be had neither from the cache nor from the net.
        ValueError: If the weights are another network's.
    """
    state, source = _weights(name, pretrained)
    if family.renamed is not None:
        state = {re.sub(*family.renamed, key): value for key, value in state.items()}
    head = None if family.pools_logits else cut_off_head(state, family.last, net.num_features)
    state = without(state, [family.last, *family.auxiliary])
    first = family.first
    filters = state.get(f"{first}.weight")
    if filters is not None and filters.ndim == 4 and net.get_submodule(first).in_channels == 1:
        state[f"{first}.weight"] = filters.sum(1, keepdim=True)
    if _POSITIONS in state and hasattr(net, "patch_size"):
        state[_POSITIONS] = _positions(net, state[_POSITIONS])
    if fresh_stem:
        _log.info("%s: %s, made for small images, is random; the rest is from %s", name, first, source)
    load_weights(net, state, source=source, random=[first] if fresh_stem else [])
    return head


def _weights(name: str, pretrained: bool | str | os.PathLike[str]) -> tuple[dict[str, Tensor], str]:
    """Returns the original's state dict and where it comes from."""
    from torchvision import models

    known: Any = models.get_model_weights(name)
    chosen = "DEFAULT" if pretrained is True else str(pretrained)
    if chosen not in known.__members__:
        if not Path(chosen).suffix:
            raise ValueError(
                f"pretrained is {chosen!r}; torchvision has {', '.join(one.name for one in known)} for {name}; allowed "
                "are these, True, False or a .pth, .pt or .safetensors file"
            )
        return read_weights(chosen), chosen
    weights: Any = known[chosen]
    cached = Path(torch.hub.get_dir()) / "checkpoints" / weights.url.rsplit("/", 1)[-1]
    try:
        return dict(weights.get_state_dict(progress=False, check_hash=True)), weights.url
    except (OSError, HTTPException, RuntimeError) as error:
        raise OSError(
            f"no pretrained weights for {name}: they are not in {cached} and could not be had from {weights.url} "
            f"({error}); put the file there, or give one as pretrained=PATH"
        ) from error


def _positions(net: Any, positions: Tensor) -> Tensor:
    """Returns the position embeddings (1 x patches + 1 x hidden) for the size of images that ``net`` takes."""
    from torchvision.models.vision_transformer import interpolate_embeddings

    if positions.ndim != 3 or positions.shape[1] == net.seq_length:
        return positions
    _log.info("the position embeddings are interpolated to images of %d pixels", net.image_size)
    resized: Tensor = interpolate_embeddings(net.image_size, net.patch_size, {_POSITIONS: positions})[_POSITIONS]
    return resized
