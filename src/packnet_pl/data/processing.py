"""What is done to a picture on its way to a network: resized, cut, mirrored, normalised."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torchvision.transforms import v2

from packnet_pl.data.pictures import Box, PictureFiles

__all__ = ["AUGMENTATIONS", "Processing", "processing"]

AUGMENTATIONS = ("flip_crop", "crop", "flip", "none")
"""What training does to a picture: random crop, mirroring, both (crop alone for what must not be mirrored), nothing."""

# For 3 channels those of ImageNet, on which pretrained backbones were trained.
_NORMALISATION = {1: ((0.5,), (0.25,)), 3: ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))}


@dataclass(frozen=True)
class Processing:
    """How the pictures of a task become tensors: made by :func:`processing`, which checks it.

    Attributes:
        image_size: Height and width of an item in pixels.
        shorter_side: Pixels of the shorter side before cutting.
        channels: 1 (luminance) or 3 (RGB).
        mean: Per channel, subtracted from pixel values in [0, 1].
        std: Per channel, divides what is left.
        augment: Of training pictures: one of :data:`AUGMENTATIONS`.
    """

    image_size: int
    shorter_side: int
    channels: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: str

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of an item in pixels."""
        return self.channels, self.image_size, self.image_size

    def pictures(
        self, paths: Sequence[str], labels: Sequence[int], *, training: bool, boxes: Sequence[Box] | None = None
    ) -> PictureFiles:
        """Returns a split.

        Args:
            paths: Of the pictures.
            labels: Class index of each.
            training: Whether they are augmented.
            boxes: Of each, what is cut out of it; that is resized to a square.
        """
        augment = self.augment if training else "none"
        return PictureFiles(
            paths,
            labels,
            self._transform(augment, boxed=boxes is not None),
            channels=self.channels,
            shorter_side=self.shorter_side,
            random=augment != "none",
            boxes=boxes,
        )

    def _transform(self, augment: str, *, boxed: bool) -> v2.Compose:
        # Resized as Pillow pictures: Pillow computes with integers, so the pixels are the same on every machine.
        steps: list[Any] = []
        if boxed:
            steps = [v2.Resize((self.image_size, self.image_size), antialias=True)]
        else:
            crop = v2.RandomCrop if augment in ("flip_crop", "crop") else v2.CenterCrop
            steps = [v2.Resize(self.shorter_side, antialias=True), crop(self.image_size)]
        if augment in ("flip_crop", "flip"):
            steps.append(v2.RandomHorizontalFlip())
        to_tensor = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([*self.mean], [*self.std])]
        return v2.Compose([*steps, *to_tensor])


def processing(
    *,
    image_size: int | None = None,
    resize: int | None = None,
    channels: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    augment: str = "flip_crop",
) -> Processing:
    """Returns a :class:`Processing`; None, so that a configuration can pass on what a network leaves open.

    Args:
        image_size: Height and width of an item in pixels; None is 224.
        resize: Pixels of the shorter side before cutting; None is ``image_size`` x 256 / 224, rounded.
        channels: 1 (luminance) or 3 (RGB); None is 3.
        mean: One number per channel; None is 0.5 for one channel, and that of ImageNet for three.
        std: One number per channel, above 0; None is 0.25 for one channel, and that of ImageNet for three.
        augment: One of :data:`AUGMENTATIONS`.

    Raises:
        ValueError: If an argument is out of its range.
    """
    image_size = 224 if image_size is None else image_size
    channels = 3 if channels is None else channels
    if channels not in _NORMALISATION:
        raise ValueError(f"channels is {channels!r}; allowed is 1 (luminance) or 3 (RGB)")
    means = _per_channel("mean", mean, channels, _NORMALISATION[channels][0])
    stds = _per_channel("std", std, channels, _NORMALISATION[channels][1])
    if min(stds) <= 0:
        raise ValueError(f"std is {list(stds)}; allowed are numbers above 0")
    if image_size < 1:
        raise ValueError(f"image_size is {image_size}; allowed is 1 or more pixels")
    shorter_side = round(image_size * 256 / 224) if resize is None else resize
    if shorter_side < image_size:
        raise ValueError(f"resize is {resize}; allowed is None, or image_size ({image_size}) or more pixels")
    if augment not in AUGMENTATIONS:
        raise ValueError(f"augment is {augment!r}; there are {list(AUGMENTATIONS)}")
    return Processing(image_size, shorter_side, channels, means, stds, augment)


def _per_channel(
    name: str, given: Sequence[float] | None, channels: int, default: tuple[float, ...]
) -> tuple[float, ...]:
    if given is None:
        return default
    numbers = tuple(given) if isinstance(given, (list, tuple)) else ()
    if len(numbers) != channels or not all(isinstance(x, (int, float)) and math.isfinite(x) for x in numbers):
        raise ValueError(f"{name} is {given!r}; allowed is a list of {channels} finite numbers, one per channel")
    return tuple(float(number) for number in numbers)
