"""Reads image files of the common formats and modes as 8-bit grey or RGB."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torch.utils.data import Dataset

from packnet_pl.data.to_tensor import Pixels
from packnet_pl.preparation import Preparation

__all__ = [
    "LOOKED_INTO",
    "Box",
    "ImageError",
    "ImageFiles",
    "ReadPixels",
    "check_image",
    "check_sizes",
    "open_image",
    "read_image",
]

LOOKED_INTO = 100_000
"""Files of a data set that are looked into before training; of more, only their names are."""

# Without a list Pillow also tries formats that start programs (EPS), whatever the ending.
_FORMATS = ("JPEG", "PNG", "BMP", "GIF", "WEBP", "TIFF", "PPM")
_MODES = {1: "L", 3: "RGB"}


Box = tuple[float, float, float, float]
"""Left, top, right and bottom edge in pixels from the top left corner of the image as it is stored."""


ReadPixels = Callable[[str, Box | None], Pixels]
"""From the path of an image, and what is cut out of it first, to its pixels, resized."""


class ImageError(ValueError):
    """A file of the user's is not the image that its name promises."""


class ImageFiles(Dataset[tuple[Tensor, ...]]):
    """Images that are read when asked for; an item is a tensor (float, C x H x W), and its class index (int64).

    Attributes:
        paths: Of the images.
        labels: Class index of each image.
        boxes: Of each, what is cut out of it first; None: all of it.
        random: Whether ``transform`` draws random numbers, from torch.

    Args:
        paths: See above.
        labels: See above.
        read: Reads a file.
        transform: From its pixels to the tensor.
        random: See above.
        boxes: See above.
    """

    def __init__(
        self,
        paths: Sequence[str],
        labels: Sequence[int],
        read: ReadPixels,
        transform: Callable[[Pixels], Tensor],
        *,
        random: bool,
        boxes: Sequence[Box] | None = None,
    ) -> None:
        self.labels, self.random = tuple(labels), random
        self.paths, self._read, self._transform = tuple(paths), read, transform
        self.boxes = None if boxes is None else tuple(boxes)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Returns an image and its class index.

        Raises:
            ImageError: If the file cannot be read as an image, or its box leaves nothing of it.
        """
        box = None if self.boxes is None else self.boxes[index]
        return self._transform(self._read(self.paths[index], box)), torch.tensor(self.labels[index])


def check_image(path: str) -> None:
    """Checks that a file is an image, by its first bytes.

    Raises:
        ValueError: If it is not that of an image.
    """  # noqa: DOC501
    try:
        with Path(path).open("rb") as file, Image.open(file, formats=_FORMATS):
            pass
    except Exception as error:
        raise _unreadable(path, error) from error


def open_image(path: str, preparation: Preparation, box: Box | None = None) -> Image.Image:
    """Returns the image of a file as it is before it is resized: see :class:`packnet_pl.models.Preparation`.

    Args:
        path: Of the file.
        preparation: Of the task.
        box: What is cut out first; it may reach beyond the edges.

    Raises:
        ImageError: If the file cannot be read as an image, or ``box`` leaves nothing of it.
    """
    # A JPEG that comes reduced would have other pixels than the box counts.
    at_least = preparation.shorter_side if box is None and not preparation.squash else None
    return read_image(path, len(preparation.colour), at_least=at_least, box=box)


def check_sizes(paths: Sequence[str]) -> None:
    """Refuses files that have more pixels than Pillow reads (twice ``Image.MAX_IMAGE_PIXELS``).

    The beginning of each file is read for it, 40 microseconds where the disk is fast; of more than
    :data:`LOOKED_INTO` files none is opened.

    Raises:
        ImageError: If one has more.
    """
    if len(paths) > LOOKED_INTO:
        return
    # Disks and file servers take several questions at once; the decoding of a header is next to nothing.
    with ThreadPoolExecutor(8) as pool:
        for path, error in zip(paths, pool.map(_too_large, paths), strict=True):
            if error is not None:
                raise ImageError(
                    f"{path} has more pixels than Pillow reads ({error}); make it smaller or delete it"
                ) from error


def _too_large(path: str) -> Image.DecompressionBombError | None:
    try:
        check_image(path)
    except ImageError as error:
        # What else is wrong with a file is reported when it is read.
        return error.__cause__ if isinstance(error.__cause__, Image.DecompressionBombError) else None
    return None


def read_image(path: str, channels: int, *, at_least: int | None = None, box: Box | None = None) -> Image.Image:
    """Returns the (first) image of a file, upright, in 8 bits: luminance (ITU-R 601) or RGB.

    Transparency shows white. 16-bit grey is scaled by its range, 0 to 65535.

    Args:
        path: Of the file.
        channels: 1 or 3.
        at_least: A JPEG may come reduced, as long as its sides keep twice as many pixels.
        box: What is cut out; it may reach beyond the edges.

    Raises:
        ImageError: If the file cannot be read as an image, or ``box`` leaves nothing of it.
    """  # noqa: DOC501
    try:
        # Not by its name: Pillow maps such a file into memory, and then turns an uncompressed TIFF wrongly.
        with Path(path).open("rb") as file, Image.open(file, formats=_FORMATS) as image:
            if at_least is not None:
                image.draft(None, (2 * at_least, 2 * at_least))
            image.load()
            # Boxes are counted on the image as it is stored.
            shown = image if box is None else _cut_out(image, box, path)
            _turn_upright(shown)
            return _eight_bits(shown, _MODES[channels])
    except ImageError:
        raise
    except Exception as error:  # Pillow's decoders raise nearly any kind on a damaged file
        raise _unreadable(path, error) from error


def _unreadable(path: str, error: Exception) -> ImageError:
    reason = f"{type(error).__name__}: {error}".splitlines()[0]
    return ImageError(f"cannot be read as an image: {path} ({reason}); replace the file or delete it")


def _cut_out(image: Image.Image, box: Box, path: str) -> Image.Image:
    left, top = max(0, math.floor(box[0])), max(0, math.floor(box[1]))
    right, bottom = min(image.width, math.ceil(box[2])), min(image.height, math.ceil(box[3]))
    if left >= right or top >= bottom:
        edges = ", ".join(f"{edge:g}" for edge in box)
        raise ImageError(
            f"the box of {path} (left, top, right, bottom: {edges}) leaves nothing of its {image.width} x "
            f"{image.height} pixels; correct the data set's annotation of it"
        )
    return image.crop((left, top, right, bottom))


def _turn_upright(image: Image.Image) -> None:
    # The pixels are loaded: what fails here is a damaged EXIF block, and such an image counts as upright.
    with suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)


def _eight_bits(image: Image.Image, mode: str) -> Image.Image:
    if image.mode.startswith("I"):
        image = _scaled(image)
    elif image.mode == "F":
        raise ValueError("its pixels are floating-point numbers; allowed are 1, 8 or 16 bits per channel")
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    # convert() copies also where there is nothing to convert.
    return image if image.mode == mode else image.convert(mode)


def _scaled(image: Image.Image) -> Image.Image:
    pixels = np.asarray(image).astype(np.int64)
    if pixels.min() < 0 or pixels.max() > 65535:
        raise ValueError(f"its pixels are {pixels.min()} to {pixels.max()}; allowed are 0 to 65535")
    return Image.fromarray(((pixels + 128) // 257).astype(np.uint8))
