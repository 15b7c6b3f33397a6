"""How images become tensors: resized, cut, mirrored in training, normalised."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from packnet_pl.data.image_files import Box, ImageFiles, ReadPixels, open_image
from packnet_pl.data.policies import POLICIES, augmentation_policy
from packnet_pl.data.to_tensor import Pixels, center_crop, level_table, normalised, random_crop, random_mirror, resized
from packnet_pl.preparation import Colour, Interpolation, Preparation

__all__ = ["AUGMENTATIONS", "Processing", "augmentation", "processing"]

AUGMENTATIONS = ("flip_crop", "crop", "flip", "none")
"""What training does to an image: random crop, mirroring, both (crop alone for what must not be mirrored), nothing.

Each may be followed by a policy: "crop+trivial" (see :data:`packnet_pl.data.policies.POLICIES`)."""

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
        augment: Of training images: from :func:`augmentation`.
    """

    preparation: Preparation
    mean: tuple[float, ...]
    std: tuple[float, ...]
    augment: str = "none"

    def images(
        self,
        paths: Sequence[str],
        labels: Sequence[int],
        *,
        training: bool,
        boxes: Sequence[Box] | None = None,
        read: ReadPixels | None = None,
    ) -> ImageFiles:
        """Returns a split.

        Args:
            paths: Of the images.
            labels: Class index of each.
            training: Whether they are augmented.
            boxes: Of each, what is cut out of it.
            read: Does what :meth:`pixels` does; None is that.
        """
        augment = self.augment if training else "none"
        return ImageFiles(
            paths, labels, read or self.pixels, self.transform(augment), random=augment != "none", boxes=boxes
        )

    def item(self, path: str, box: Box | None = None) -> Tensor:
        """Returns the tensor (float, C x H x W) that validation and test make of a file.

        Args:
            path: Of the file.
            box: What is cut out of it first.

        Raises:
            ImageError: If the file cannot be read as an image, or ``box`` leaves nothing of it.
        """
        return self.transform()(self.pixels(path, box))

    def pixels(self, path: str, box: Box | None = None) -> Pixels:
        """Returns the image of a file, resized: what is the same each time that it is read.

        Args:
            path: Of the file.
            box: What is cut out of it first.

        Raises:
            ImageError: If the file cannot be read as an image, or ``box`` leaves nothing of it.
        """
        return resized(open_image(path, self.preparation, box), self.preparation)

    def transform(self, augment: str = "none") -> Callable[[Pixels], Tensor]:
        """Returns what makes a tensor (float, C x H x W) of what :meth:`pixels` returns.

        Args:
            augment: From :func:`augmentation`; "none" is what validation and test images go through. Where all of
                the image is squashed into the size of an item there is nothing to crop.
        """
        size = self.preparation.size
        base, _, policy = augment.partition("+")
        cut = random_crop if base in ("flip_crop", "crop") else center_crop
        return partial(
            _as_tensor,
            cut=partial(cut, size=size),
            mirror=base in ("flip_crop", "flip"),
            policy=augmentation_policy(policy, self.mean) if policy else None,
            levels=level_table(self.mean, self.std),
        )


def _as_tensor(
    pixels: Pixels,
    *,
    cut: Callable[[Pixels], Pixels],
    mirror: bool,
    policy: Callable[[Pixels], Pixels] | None,
    levels: NDArray[np.float32],
) -> Tensor:
    part = cut(pixels)
    part = random_mirror(part) if mirror else part
    return normalised(policy(part) if policy else part, levels)


def augmentation(given: str, usual: str = "flip_crop") -> str:
    """Returns ``given`` written out: one of :data:`AUGMENTATIONS`, perhaps with "+" and a policy.

    Args:
        given: The same, or a policy alone.
        usual: What comes before a policy that was given alone.

    Raises:
        ValueError: If it is none of these.
    """
    written = f"{usual}+{given}" if given in POLICIES else given
    base, plus, policy = written.partition("+") if isinstance(written, str) else ("", "", "")
    if base not in AUGMENTATIONS or (plus and policy not in POLICIES):
        raise ValueError(
            f"augment is {given!r}; there are {list(AUGMENTATIONS)}, and each of them with a policy of "
            f"{list(POLICIES)}: {usual}+trivial"
        )
    return written


def processing(
    *,
    image_size: int | None = None,
    resize: float | None = None,
    squash: bool | None = None,
    interpolation: Interpolation | None = None,
    channels: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    augment: str = "flip_crop",
) -> Processing:
    """Returns a :class:`Processing`, with defaults for None, so that a configuration can leave values open.

    Args:
        image_size: Height and width of an item in pixels; None is 224.
        resize: Pixels of the shorter side before the middle is cut out, an int of ``image_size`` or more; or, as a
            float in (0, 1], the share of it that is cut out. None is 0.875, as 224 of 256 pixels.
        squash: Whether both sides are resized to that, whatever the image's proportions; None is False.
        interpolation: "bilinear" or "bicubic"; None is "bilinear".
        channels: 1 (luminance) or 3 (RGB); None is 3.
        mean: One number per channel; None is 0.5 for one channel, and that of ImageNet for three.
        std: One number per channel, above 0; None is 0.25 for one channel, and that of ImageNet for three.
        augment: One of :data:`AUGMENTATIONS`, a policy, or both: see :func:`augmentation`.

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
    resize = 0.875 if resize is None else resize
    shorter_side = round(image_size / resize) if isinstance(resize, float) and 0 < resize <= 1 else resize
    if type(shorter_side) is not int or shorter_side < image_size:
        raise ValueError(
            f"resize is {resize}; allowed is None, image_size ({image_size}) or more pixels, or the share that is cut "
            "out, such as 0.875"
        )
    augment = augmentation(augment)
    how = Preparation(
        _COLOURS[channels],
        (image_size, image_size),
        shorter_side,
        interpolation="bilinear" if interpolation is None else interpolation,
        squash=bool(squash),
    )
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
