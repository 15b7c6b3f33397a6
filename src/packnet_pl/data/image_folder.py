"""A folder of pictures, one sub-folder per class, as the data of a task."""

import math
import os
from collections.abc import Sequence

import torch
from torchvision.transforms import v2

from packnet_pl.data.folder_layout import cut_validation, find_pictures
from packnet_pl.data.pictures import PictureFiles
from packnet_pl.data.task_data import TaskData

__all__ = ["AUGMENTATIONS", "image_folder", "picture_transform"]

AUGMENTATIONS = ("flip_crop", "crop", "none")
"""What training does to a picture: random crop and mirroring, random crop (for what must not be mirrored), nothing."""

# For 3 channels those of ImageNet, on which pretrained backbones were trained.
_NORMALISATION = {1: ((0.5,), (0.25,)), 3: ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))}


def image_folder(
    path: str | os.PathLike[str],
    *,
    image_size: int | None = None,
    resize: int | None = None,
    channels: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    augment: str = "flip_crop",
    val_fraction: float = 0.1,
    seed: int = 0,
) -> TaskData:
    """Returns the pictures of a folder that holds train/CLASS/*, test/CLASS/* and optionally val/CLASS/*.

    Classes are the sorted names of the sub-folders. Pictures lie directly in them and end, in either case, in jpg,
    jpeg, png, bmp, gif, webp, tif, tiff, ppm or pgm; all other files, and hidden ones, are ignored. Size, colours and
    depth of a picture are free: see :func:`packnet_pl.data.pictures.read_picture`. Pictures are read when they are
    asked for, and each is resized and cut to a square: the middle, or in training what ``augment`` says.

    Args:
        path: The folder; ``~`` is the home folder.
        image_size: Height and width of an item in pixels; None is 224.
        resize: Pixels of the shorter side before cutting; None is ``image_size`` x 256 / 224, rounded.
        channels: 1 (luminance) or 3 (RGB); None is 3.
        mean: One number per channel, subtracted from pixel values in [0, 1]; None is 0.5 for one channel, and that of
            ImageNet for three.
        std: One number per channel, above 0, divides what is left; None is 0.25 for one channel, and that of ImageNet
            for three.
        augment: Of training pictures: "flip_crop", "crop" or "none".
        val_fraction: Share of each class's training pictures to validate on instead, in (0, 1), at least one picture
            and never all; not used where there is a folder val/.
        seed: Decides which pictures these are. It is not the run's: all runs are to be judged on the same pictures.

    Raises:
        FileNotFoundError: If a folder is missing.
        ValueError: If an argument is out of its range, or the folders do not hold what they should: see
            :func:`packnet_pl.data.folder_layout.find_pictures`.
    """
    # None, so that a configuration can pass on what a network leaves open.
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
    if not 0 < val_fraction < 1:
        raise ValueError(f"val_fraction is {val_fraction}; allowed is a number in (0, 1)")

    splits = find_pictures(path)
    if "val" not in splits:
        splits["train"], splits["val"] = cut_validation(splits["train"], val_fraction, seed)

    def pictures(split: str, augment: str) -> PictureFiles:
        files = [(file, label) for label, files in enumerate(splits[split].values()) for file in files]
        return PictureFiles(
            [file for file, _ in files],
            [label for _, label in files],
            picture_transform((image_size, image_size), means, stds, resize=shorter_side, augment=augment)[0],
            channels=channels,
            shorter_side=shorter_side,
            random=augment != "none",
        )

    return TaskData(
        pictures("train", augment),
        pictures("val", "none"),
        pictures("test", "none"),
        tuple(splits["train"]),
        (channels, image_size, image_size),
        means,
        stds,
        shorter_side,
    )


def _per_channel(
    name: str, given: Sequence[float] | None, channels: int, default: tuple[float, ...]
) -> tuple[float, ...]:
    if given is None:
        return default
    numbers = tuple(given) if isinstance(given, (list, tuple)) else ()
    if len(numbers) != channels or not all(isinstance(x, (int, float)) and math.isfinite(x) for x in numbers):
        raise ValueError(f"{name} is {given!r}; allowed is a list of {channels} finite numbers, one per channel")
    return tuple(float(number) for number in numbers)


def picture_transform(
    size: tuple[int, int],
    mean: Sequence[float],
    std: Sequence[float],
    *,
    resize: int | None = None,
    augment: str = "none",
) -> tuple[v2.Compose, int]:
    """Returns what makes a tensor of a PIL picture, and the pixels that it reduces the shorter side to.

    Args:
        size: Height and width to cut out, in pixels.
        mean: Per channel, subtracted from pixel values in [0, 1].
        std: Per channel, divides what is left.
        resize: As in :func:`image_folder`.
        augment: As in :func:`image_folder`; "none" is what validation and test pictures go through.
    """
    # Resized as Pillow pictures: Pillow computes with integers, so the pixels are the same on every machine.
    shorter_side = round(max(size) * 256 / 224) if resize is None else resize
    cut = {
        "flip_crop": [v2.RandomCrop(size), v2.RandomHorizontalFlip()],
        "crop": [v2.RandomCrop(size)],
        "none": [v2.CenterCrop(size)],
    }[augment]
    steps = [
        v2.Resize(shorter_side, antialias=True),
        *cut,
        v2.PILToTensor(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(list(mean), list(std)),
    ]
    return v2.Compose(steps), shorter_side
