"""How images are prepared for pretrained weights: size, crop, interpolation, mean and std, from their metadata."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from packnet_pl.models.backbones.timm_backbones import timm_backbone
from packnet_pl.models.backbones.torchvision_backbones import torchvision_backbone
from packnet_pl.models.backbones.torchvision_families import torchvision_names
from packnet_pl.models.backbones.torchvision_weights import weights_of
from packnet_pl.preparation import Interpolation

__all__ = ["INPUTS", "PretrainedInput", "timm_input", "torchvision_input"]


@dataclass(frozen=True)
class PretrainedInput:
    """How images are prepared for pretrained weights: as the library that has them evaluates them.

    Attributes:
        image_size: Height and width in pixels.
        resize: Pixels of the shorter side before the middle is cut out.
        squash: Whether both sides become that, whatever the image's proportions.
        interpolation: "bilinear" or "bicubic".
        mean: Of each of 3 channels, subtracted from pixel values in [0, 1].
        std: Of each channel, divides what is left.
        beyond: What of the preparation cannot be done here, in words; empty if all can.
    """

    image_size: int
    resize: int
    squash: bool
    interpolation: Interpolation
    mean: tuple[float, ...]
    std: tuple[float, ...]
    beyond: str = ""


def torchvision_input(name: str, pretrained: object = True, image_size: int | None = None) -> PretrainedInput | None:
    """Returns what torchvision's weights for ``name`` expect; None if there are none.

    Args:
        name: Of the network.
        pretrained: The name of weights; anything else, a file too, counts as the default ones.
        image_size: Height and width in pixels, if they are to be others: the shorter side is resized in proportion.
    """
    if name not in torchvision_names():
        return None
    preset = weights_of(name, pretrained).transforms()
    crop, side, size = preset.crop_size[0], preset.resize_size[0], image_size or preset.crop_size[0]
    interpolation, known = preset.interpolation.value, ("bilinear", "bicubic")
    return PretrainedInput(
        size,
        side if size == crop else round(size * side / crop),
        squash=False,
        interpolation="bicubic" if interpolation == "bicubic" else "bilinear",
        mean=tuple(preset.mean),
        std=tuple(preset.std),
        beyond="" if interpolation in known else f"resized with interpolation {interpolation!r}",
    )


def timm_input(name: str, image_size: int | None = None) -> PretrainedInput | None:
    """Returns what timm's weights for ``name``, which may have a tag, expect; None if there is no such network.

    Args:
        name: Of the network.
        image_size: Height and width in pixels, if they are to be others than those that it was trained on.
    """
    import timm
    from timm.data.config import resolve_data_config

    try:
        config = timm.get_pretrained_cfg(name)
    except RuntimeError:  # no such tag
        return None
    if config is None:
        return None
    wanted: dict[str, Any] = resolve_data_config(pretrained_cfg=vars(config))  # type: ignore[no-untyped-call]
    _, height, width = wanted["input_size"]
    size = image_size or width
    return PretrainedInput(
        size,
        math.floor(size / wanted["crop_pct"]),  # as timm does
        squash=wanted["crop_mode"] == "squash",
        interpolation="bicubic" if wanted["interpolation"] == "bicubic" else "bilinear",
        mean=tuple(wanted["mean"]),
        std=tuple(wanted["std"]),
        beyond=_beyond(wanted, square=image_size is not None or height == width),
    )


def _beyond(wanted: dict[str, Any], *, square: bool) -> str:
    _, height, width = wanted["input_size"]
    if not square:
        return f"{height} pixels high and {width} wide"
    if wanted["crop_mode"] not in ("center", "squash"):
        return f"padded at their edges (crop mode {wanted['crop_mode']!r})"
    if wanted["crop_pct"] > 1:
        return f"smaller than what is cut out of them (crop share {wanted['crop_pct']})"
    if wanted["interpolation"] not in ("bilinear", "bicubic"):
        return f"resized with interpolation {wanted['interpolation']!r}"
    return ""


INPUTS: dict[Callable[..., object], Callable[[str, object, int | None], PretrainedInput | None]] = {
    timm_backbone: lambda name, _, image_size: timm_input(name, image_size),
    torchvision_backbone: torchvision_input,
}
"""Builder -> what pretrained weights of one of its networks expect, by its name, ``pretrained`` and ``image_size``."""
