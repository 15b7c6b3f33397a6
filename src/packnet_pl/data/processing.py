"""What is done to an image on its way to a network: resized, cut, mirrored, normalised."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torchvision.transforms import v2

from packnet_pl.data.image_files import Box, ImageFiles, open_image
from packnet_pl.models import Preparation
from packnet_pl.preparation import Colour

__all__ = ["AUGMENTATIONS", "Processing", "processing"]

AUGMENTATIONS = ("flip_crop", "crop", "flip", "none")
"""What training does to an image: random crop, mirroring, both (crop alone for what must not be mirrored), nothing."""

# For 3 channels those of ImageNet, on which pretrained backbones were trained.
_COLOURS: dict[int, Colour] = {1: "L", 3: "RGB"}
_NORMALISATION = {1: ((0.5,), (0.25,)), 3: ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))}


@dataclass(frozen=True)
class Processing:
    """How the images of a task become tensors: made by :func:`processing`, which checks it.

    Attributes:
        preparation: How a file becomes pixels; for training, where that draws nothing.
        mean: Per channel, subtracted from pixel values in [0, 1].
        std: Per channel, divides what is left.
        augment: Of training images: one of :data:`AUGMENTATIONS`.
    """

    preparation: Preparation
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: str = "none"

    def images(
        self, paths: Sequence[str], labels: Sequence[int], *, training: bool, boxes: Sequence[Box] | None = None
    ) -> ImageFiles:
        """Returns a split.

        Args:
            paths: Of the images.
            labels: Class index of each.
            training: Whether they are augmented.
            boxes: Of each, what is cut out of it.
        """
        augment = self.augment if training else "none"
        return ImageFiles(
            paths,
            labels,
            self.transform(augment),
            preparation=self.preparation,
            random=augment != "none",
            boxes=boxes,
        )

    def item(self, path: str, box: Box | None = None) -> Tensor:
        """Returns what validation and test make of a file (float, C x H x W).

        Args:
            path: Of the file.
            box: What is cut out of it first.

        Raises:
            ImageError: If the file cannot be read as an image, or ``box`` leaves nothing of it.
        """
        found: Tensor = self.transform()(open_image(path, self.preparation, box))
        return found

    def transform(self, augment: str = "none") -> v2.Compose:
        """Returns what makes a tensor of the Pillow image that :func:`packnet_pl.data.image_files.open_image` returns.

        Args:
            augment: One of :data:`AUGMENTATIONS`; "none" is what validation and test images go through. Where the
                image is squashed there is nothing to crop.
        """
        # Resized as Pillow images: Pillow computes with integers, so the pixels are the same on every machine.
        how, size = self.preparation, list(self.preparation.size)
        steps: list[Any] = []
        if how.shorter_side is None:
            steps = [v2.Resize(size, antialias=True)]
        else:
            crop = v2.RandomCrop if augment in ("flip_crop", "crop") else v2.CenterCrop
            steps = [v2.Resize(how.shorter_side, antialias=True), crop(size)]
        if augment in ("flip_crop", "flip"):
            steps.append(v2.RandomHorizontalFlip())
        return v2.Compose([*steps, v2.PILToTensor(), _to_unit, v2.Normalize([*self.mean], [*self.std])])


def _to_unit(image: Tensor) -> Tensor:
    # Divided as the embedded tasks are; v2.ToDtype multiplies by 1 / 255, which rounds half of all values otherwise.
    return image.float() / 255


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
    how = Preparation(_COLOURS[channels], (image_size, image_size), shorter_side)
    return Processing(how, means, stds, augment)


def _per_channel(
    name: str, given: Sequence[float] | None, channels: int, default: tuple[float, ...]
) -> tuple[float, ...]:
    if given is None:
        return default
    numbers = tuple(given) if isinstance(given, (list, tuple)) else ()
    if len(numbers) != channels or not all(isinstance(x, (int, float)) and math.isfinite(x) for x in numbers):
        raise ValueError(f"{name} is {given!r}; allowed is a list of {channels} finite numbers, one per channel")
    return tuple(float(number) for number in numbers)
