"""The pictures that pretrained weights were trained on, as their metadata say."""

from collections.abc import Callable
from dataclasses import dataclass

from packnet_pl.models.timm_backbones import timm_backbone
from packnet_pl.models.torchvision_backbones import torchvision_backbone, torchvision_names

__all__ = ["INPUTS", "PretrainedInput", "timm_input", "torchvision_input"]


@dataclass(frozen=True)
class PretrainedInput:
    """What pretrained weights expect of a picture.

    Attributes:
        image_size: Height and width in pixels.
        mean: Of each of 3 channels, subtracted from pixel values in [0, 1].
        std: Of each channel, divides what is left.
    """

    image_size: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


def torchvision_input(name: str) -> PretrainedInput | None:
    """Returns what torchvision's default weights for ``name`` expect; None if there are none."""
    from torchvision import models

    if name not in torchvision_names():
        return None
    preset = models.get_model_weights(name).DEFAULT.transforms()
    return PretrainedInput(preset.crop_size[0], tuple(preset.mean), tuple(preset.std))


def timm_input(name: str) -> PretrainedInput | None:
    """Returns what timm's weights for ``name``, which may have a tag, expect; None if there is no such network."""
    import timm

    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError:  # no such tag
        return None
    return None if config is None else PretrainedInput(config.input_size[-1], tuple(config.mean), tuple(config.std))


INPUTS: dict[Callable[..., object], Callable[[str], PretrainedInput | None]] = {
    timm_backbone: timm_input,
    torchvision_backbone: torchvision_input,
}
"""Builder -> what the pretrained weights of one of its networks expect, by name."""
