"""Small images for people to look at: items of a split, undone to 8-bit pixels, as PNG."""

import io
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

__all__ = ["THUMBNAIL_SIDE", "thumbnail_png"]

THUMBNAIL_SIDE = 96
"""The most pixels of the longer side."""


def thumbnail_png(image: Tensor, mean: Sequence[float], std: Sequence[float]) -> bytes:
    """Returns the PNG file of an item of a split; equal items give equal bytes.

    Args:
        image: Normalised, float, 1 or 3 x H x W.
        mean: Per channel, what was subtracted from pixel values in [0, 1].
        std: Per channel, what divided the rest.
    """
    shape = (-1, 1, 1)
    values = image.float().cpu() * torch.tensor(std).view(shape) + torch.tensor(mean).view(shape)
    pixels = (values.clamp(0, 1) * 255).round().to(torch.uint8)
    array = pixels[0].numpy() if len(pixels) == 1 else pixels.permute(1, 2, 0).contiguous().numpy()
    small = Image.fromarray(array)
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    with io.BytesIO() as file:
        small.save(file, format="PNG")
        return file.getvalue()
