"""A folder of images, one sub-folder per class, as the data of a task."""

import os
from collections.abc import Sequence

from packnet_pl.data.cached_pixels import cached_pixels
from packnet_pl.data.folder_layout import find_images
from packnet_pl.data.image_files import ImageFiles
from packnet_pl.data.image_list import ImageList, cut_validation
from packnet_pl.data.processing import processing
from packnet_pl.data.task_data import TaskData
from packnet_pl.preparation import Interpolation

__all__ = ["image_folder"]


def image_folder(  # noqa: PLR0913 - a yaml names each of them
    path: str | os.PathLike[str],
    *,
    image_size: int | None = None,
    resize: float | None = None,
    squash: bool | None = None,
    interpolation: Interpolation | None = None,
    channels: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    augment: str = "flip_crop",
    val_fraction: float = 0.1,
    seed: int = 0,
    cache_gb: float | None = None,
    cache_dir: str | None = None,
) -> TaskData:
    """Returns the images of a folder that holds train/CLASS/*, test/CLASS/* and optionally val/CLASS/*.

    Classes are the sorted names of the sub-folders. Images lie directly in them and end, in either case, in jpg,
    jpeg, png, bmp, gif, webp, tif, tiff, ppm or pgm; all other files, and hidden ones, are ignored. Size, colours and
    depth of an image are free: see :func:`packnet_pl.data.image_files.read_image`. Images are read when they are
    asked for, and each is resized and cut to a square: the middle, or in training what ``augment`` says.

    Args:
        path: The folder; ``~`` is the home folder.
        image_size: Height and width of an item in pixels; None is 224.
        resize: Pixels of the shorter side before the middle is cut out, an int of ``image_size`` or more; or, as a
            float in (0, 1], the share of it that is cut out. None is 0.875, as 224 of 256 pixels.
        squash: Whether both sides are resized to that, whatever the image's proportions; None is False.
        interpolation: "bilinear" or "bicubic"; None is "bilinear".
        channels: 1 (luminance) or 3 (RGB); None is 3.
        mean: One number per channel, subtracted from pixel values in [0, 1]; None is 0.5 for one channel, and that of
            ImageNet for three.
        std: One number per channel, above 0, divides what is left; None is 0.25 for one channel, and that of ImageNet
            for three.
        augment: Of training images: "flip_crop", "crop", "flip" or "none"; then perhaps a policy of torchvision's,
            "+trivial", "+rand", "+auto" or "+augmix", which alone ("trivial") stands for "flip_crop+trivial".
        val_fraction: Share of each class's training images to validate on instead, in (0, 1), at least one image
            and never all; not used where there is a folder val/.
        seed: Decides which images these are. It is not the run's: all runs are to be judged on the same images.
        cache_gb: GB (10^9 bytes) on the disk for decoded and resized images, so that each is decoded once; what does
            not fit is decoded each time. The tensors are the same. None or 0: all are decoded each time.
        cache_dir: The folder for them; None is ``packnet_pl`` in the user's cache folder.

    Raises:
        FileNotFoundError: If a folder is missing.
        ValueError: If an argument is out of its range, or the folders do not hold what they should: see
            :func:`packnet_pl.data.folder_layout.find_images`.
    """
    how = processing(
        image_size=image_size,
        resize=resize,
        squash=squash,
        interpolation=interpolation,
        channels=channels,
        mean=mean,
        std=std,
        augment=augment,
    )
    if not 0 < val_fraction < 1:
        raise ValueError(f"val_fraction is {val_fraction}; allowed is a number in (0, 1)")

    found = find_images(path)
    names = tuple(found["train"])
    splits = {name: ImageList.of_classes(classes) for name, classes in found.items()}
    if "val" not in splits:
        needed = "without a folder val/ it needs at least two, one of them to validate on"
        splits["train"], splits["val"] = cut_validation(splits["train"], val_fraction, seed, names, names, needed)

    paths = [path for split in splits.values() for path in split.paths]
    read = cached_pixels(how.pixels, how.preparation, paths, cache_gb, cache_dir)

    def images(split: str) -> ImageFiles:
        return how.images(splits[split].paths, splits[split].labels, training=split == "train", read=read)

    return TaskData(
        images("train"),
        images("val"),
        images("test"),
        names,
        how.preparation.input_shape,
        how.mean,
        how.std,
        how.preparation,
    )
