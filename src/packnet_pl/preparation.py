"""How an image file becomes the pixels that a network takes, in full, to be repeated in other programs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

__all__ = ["Colour", "Interpolation", "Preparation", "cut_out_of"]

Colour = Literal["L", "RGB"]
"""Luminance (ITU-R 601, one channel) or red, green and blue, as Pillow calls them."""

Interpolation = Literal["bilinear", "bicubic"]
"""Kernel with which images are resized: a triangle, or cubic (a = -0.5); Pillow's, and so timm's and torchvision's."""


@dataclass(frozen=True)
class Preparation:
    """The steps from an image file to 8-bit pixels; mean and standard deviation follow them.

    The image is decoded, a box is cut out of it if there is one, it is turned upright, and put on white where it is
    transparent. Then it is resized with antialiasing, as Pillow does it.

    Attributes:
        colour: "L" or "RGB".
        size: Height and width of what comes out, in pixels.
        shorter_side: Pixels that the shorter side is resized to before the middle is cut out. None: nothing is cut, and
            all of the image is squashed into ``size``, whatever its proportions.
        boxes: Whether the images of the data set were cut out of larger ones by annotated boxes.
        interpolation: "bilinear" or "bicubic".
        squash: Whether both sides, not the shorter one alone, become ``shorter_side`` pixels, whatever the image's
            proportions; always true where that is None.

    Raises:
        ValueError: If there is no such colour or interpolation, or a size is out of its range.
    """

    colour: Colour
    size: tuple[int, int]
    shorter_side: int | None = None
    boxes: bool = False
    interpolation: Interpolation = "bilinear"
    squash: bool = False

    def __post_init__(self) -> None:
        if self.colour not in get_args(Colour):
            raise ValueError(f"colour is {self.colour!r}; allowed are {list(get_args(Colour))}")
        if len(self.size) != 2 or any(type(side) is not int or side < 1 for side in self.size):
            raise ValueError(f"size is {self.size!r}; allowed are height and width, 1 or more pixels each")
        if self.shorter_side is not None and not (
            type(self.shorter_side) is int and self.shorter_side >= max(self.size)
        ):
            raise ValueError(
                f"the shorter side is {self.shorter_side!r}, and {self.size[0]} x {self.size[1]} pixels are to be cut "
                f"out of it; allowed is {max(self.size)} or more"
            )
        if type(self.boxes) is not bool:
            raise ValueError(f"boxes is {self.boxes!r}; allowed are true and false")
        if self.interpolation not in get_args(Interpolation):
            raise ValueError(f"interpolation is {self.interpolation!r}; allowed are {list(get_args(Interpolation))}")
        if self.shorter_side is None:
            object.__setattr__(self, "squash", True)  # the class is frozen

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height and width of what comes out."""
        return len(self.colour), *self.size

    def dump(self) -> dict[str, Any]:
        """Returns it as JSON, with all that is always done spelled out, as ``docs/format.md`` explains it."""
        return {
            "jpeg_at_least": None if self.squash or self.shorter_side is None else 2 * self.shorter_side,
            "boxes": self.boxes,
            "upright": True,
            "background": "white",
            "colour": self.colour,
            "resize": "squash" if self.squash else "shorter_side",
            "shorter_side": self.shorter_side,
            "interpolation": self.interpolation,
            "antialias": True,
            "size": list(self.size),
        }

    @classmethod
    def parse(cls, dumped: Mapping[str, Any]) -> "Preparation":
        """Reads what :meth:`dump` wrote.

        Raises:
            ValueError: If it is something else, or asks for what this version does not do.
        """
        try:
            found = cls(
                dumped["colour"],
                tuple(dumped["size"]),
                dumped["shorter_side"],
                dumped["boxes"],
                dumped["interpolation"],
                squash=dumped["resize"] == "squash",
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not the preparation of an image: {type(error).__name__} {error}") from error
        expected = found.dump()
        for key in {**expected, **dumped}:
            # With its type: 1 is no true, and 24.0 no number of pixels.
            if key not in expected or key not in dumped or repr(dumped[key]) != repr(expected[key]):
                raise ValueError(
                    f"its preparation of images has {key}={dumped.get(key)!r}; this version does {expected.get(key)!r}"
                )
        return found


def cut_out_of(input_shape: Sequence[int], shorter_side: int | None) -> Preparation | None:
    """Returns the preparation that resizes the shorter side and cuts out the middle; None if these cannot be known.

    It is all that files and checkpoints of earlier versions have.

    Args:
        input_shape: Channels, height, width, or empty if unknown.
        shorter_side: In pixels, or None if unknown.
    """
    if shorter_side is None or len(input_shape) != 3 or input_shape[0] not in (1, 3):
        return None
    channels, height, width = input_shape
    if shorter_side < max(height, width):
        return None
    return Preparation("L" if channels == 1 else "RGB", (height, width), shorter_side)
