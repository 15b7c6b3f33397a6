"""Augmentation policies of torchvision: random changes of colour and geometry, learned or drawn from a list."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from PIL import Image

from packnet_pl.data.to_tensor import Pixels

__all__ = ["POLICIES", "augmentation_policy"]

POLICIES = ("trivial", "rand", "auto", "augmix")
"""TrivialAugment (Wide), RandAugment, AutoAugment as learned on ImageNet, AugMix; each as torchvision sets it."""

_CLASSES = {"trivial": "TrivialAugmentWide", "rand": "RandAugment", "auto": "AutoAugment", "augmix": "AugMix"}


def augmentation_policy(name: str, mean: Sequence[float]) -> Callable[[Pixels], Pixels]:
    """Returns a function from the pixels of an image to as many others, drawn with torch's generator.

    Pillow computes with integers, in less time than torchvision takes for tensors.

    Args:
        name: One of :data:`POLICIES`.
        mean: Per channel, in [0, 1]: what is moved into the image from outside of it has this colour, so that it is
            zero when it is normalised.
    """
    # Seconds to import, and only these need it.
    from torchvision.transforms import InterpolationMode, v2

    fill = [round(255 * level) for level in mean]
    transform = getattr(v2, _CLASSES[name])(interpolation=InterpolationMode.BILINEAR, fill=fill)
    return partial(_changed, transform=transform)


def _changed(pixels: Pixels, *, transform: Callable[[Image.Image], Any]) -> Pixels:
    # Pillow has grey images without an axis of channels, and cut or mirrored ones are views.
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))
    return np.asarray(transform(image)).reshape(pixels.shape)
