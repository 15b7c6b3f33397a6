"""Pillow images to tensors as a network takes them: resized, the middle cut out, normalised.

Bit for bit what torchvision's ``Resize``, ``CenterCrop``, ``PILToTensor`` and ``Normalize`` make of a Pillow image,
without the seconds that importing torchvision takes: a prediction needs nothing else.
"""

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from packnet_pl.preparation import Preparation

__all__ = ["center_crop", "normalised", "resized"]

_KERNELS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def resized(image: Image.Image, preparation: Preparation) -> Image.Image:
    """Returns ``image`` with its shorter side, or both sides, resized as ``preparation`` says.

    Pillow computes with integers, so the pixels are the same on every machine.
    """
    height, width = preparation.size
    side, short = preparation.shorter_side, min(image.size)
    if side is not None:
        width, height = (side if preparation.squash else int(side * length / short) for length in image.size)
    return image.resize((width, height), _KERNELS[preparation.interpolation])


def center_crop(image: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Returns the middle of ``image``: height and width ``size``; a half pixel is rounded to the even one."""
    height, width = size
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


def normalised(image: Image.Image, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Returns (pixel / 255 - mean) / std as a tensor (float, C x H x W).

    Args:
        image: 8 bits, luminance or RGB.
        mean: One number per channel, subtracted from pixel values in [0, 1].
        std: One number per channel, divides what is left.
    """
    pixels = torch.from_numpy(np.array(image)).view(image.height, image.width, -1).permute(2, 0, 1)
    # Divided as the embedded tasks are; multiplied by 1 / 255, half of all values would be rounded otherwise.
    unit = pixels.float() / 255
    below, scale = (torch.tensor(numbers, dtype=torch.float32).view(-1, 1, 1) for numbers in (mean, std))
    return (unit - below) / scale
