"""Image size, mean and standard deviation that pretrained weights expect, from their metadata."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from packnet_pl.models.backbones.timm_backbones import timm_backbone
from packnet_pl.models.backbones.torchvision_backbones import torchvision_backbone
from packnet_pl.models.backbones.torchvision_families import torchvision_names

__all__ = ["INPUTS", "PretrainedInput", "timm_input", "torchvision_input"]


@dataclass(frozen=True)
class PretrainedInput:
    """Size, mean and standard deviation of images that pretrained weights expect.

    Attributes:
        image_size: Height and width in pixels.
        mean: Of each of 3 channels, subtracted from pixel values in [0, 1].
        std: Of each channel, divides what is left.
    """

    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def torchvision_input(name: str, pretrained: object = True) -> PretrainedInput | None:
    """Returns what torchvision's weights for ``name`` expect; None if there are none.

    Args:
        name: Of the network.
        pretrained: The name of weights; anything else, a file too, counts as the default ones.
    """
    from torchvision import models

    if name not in torchvision_names():
        return None
    known = models.get_model_weights(name).__members__
    weights: Any = known.get(str(pretrained), known["DEFAULT"])
    preset = weights.transforms()
    return PretrainedInput(preset.crop_size[0], tuple(preset.mean), tuple(preset.std))


def timm_input(name: str) -> PretrainedInput | None:
    """Returns what timm's weights for ``name``, which may have a tag, expect; None if there is no such network."""
    import timm

    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError:  # no such tag
        return None
    return None if config is None else PretrainedInput(config.input_size[-1], tuple(config.mean), tuple(config.std))


INPUTS: dict[Callable[..., object], Callable[[str, object], PretrainedInput | None]] = {
    timm_backbone: lambda name, _: timm_input(name),
    torchvision_backbone: torchvision_input,
}
"""Builder -> what pretrained weights of one of its networks expect, by its name and its ``pretrained``."""
