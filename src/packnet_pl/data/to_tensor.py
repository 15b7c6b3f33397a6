"""Pillow images to tensors as a network takes them: resized, cut, mirrored, normalised.

Bit for bit what torchvision's ``Resize``, ``CenterCrop``, ``RandomCrop``, ``RandomHorizontalFlip``, ``PILToTensor`` and
``Normalize`` make of a Pillow image, with the same random numbers, without the seconds that importing torchvision takes
and the time that its transforms spend on finding out what they were given.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from packnet_pl.preparation import Preparation

__all__ = ["Pixels", "center_crop", "level_table", "normalised", "random_crop", "random_mirror", "resized"]

Pixels = NDArray[np.uint8]
"""Of an image: height x width x channels."""

_KERNELS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


def resized(image: Image.Image, preparation: Preparation) -> Pixels:
    """Returns ``image`` (8 bits, luminance or RGB) with its shorter side, or both, resized as ``preparation`` says.

    Pillow computes with integers, so the pixels are the same on every machine.
    """
    height, width = preparation.size
    side, short = preparation.shorter_side, min(image.size)
    if side is not None:
        width, height = (side if preparation.squash else int(side * length / short) for length in image.size)
    found = image.resize((width, height), _KERNELS[preparation.interpolation])
    return np.asarray(found).reshape(found.height, found.width, -1)


def center_crop(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Returns the middle of ``pixels``: height and width ``size``; a half pixel is rounded to the even one."""
    top, left = (round((whole - part) / 2) for whole, part in zip(pixels.shape, size, strict=False))
    return pixels[top : top + size[0], left : left + size[1]]


def random_crop(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """Returns a random part of ``pixels``: height and width ``size``. torch draws where, if there is a choice."""
    # First the row, then the column, each only where it is not certain: so torchvision draws.
    top, left = (
        int(torch.randint(whole - part + 1, ())) if whole > part else 0
        for whole, part in zip(pixels.shape, size, strict=False)
    )
    return pixels[top : top + size[0], left : left + size[1]]


def random_mirror(pixels: Pixels) -> Pixels:
    """Returns ``pixels`` with left and right exchanged, or as they are; torch draws which."""
    return pixels[:, ::-1] if float(torch.rand(1)) < 0.5 else pixels


def level_table(mean: Sequence[float], std: Sequence[float]) -> NDArray[np.float32]:
    """Returns (level / 255 - mean) / std for each channel (row) and each level of a pixel, 0 to 255 (column).

    Args:
        mean: One number per channel, subtracted from levels in [0, 1].
        std: One number per channel, divides what is left.
    """
    below, scale = (np.asarray(values, dtype=np.float32).reshape(-1, 1) for values in (mean, std))
    # Divided as the embedded tasks are; multiplied by 1 / 255, half of all values would be rounded otherwise.
    unit = np.arange(256, dtype=np.float32) / np.float32(255)
    return (unit - below) / scale


def normalised(pixels: Pixels, levels: NDArray[np.float32]) -> Tensor:
    """Returns an image as a tensor (float, C x H x W).

    Args:
        pixels: Height x width x channels.
        levels: What each level of a channel becomes: see :func:`level_table`.
    """
    height, width, channels = pixels.shape
    found = torch.empty(channels, height, width)
    for channel, numbers, plane in zip(range(channels), levels, found.numpy(), strict=True):
        # All levels are in the table; to check that, numpy would need a copy.
        np.take(numbers, pixels[..., channel], out=plane, mode="wrap")
    return found
