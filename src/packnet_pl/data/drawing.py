"""Draws one glyph as a small grey image: stroke weight, affine and elastic warp, photographed background, noise."""

from functools import cache, lru_cache
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter, map_coordinates
from sklearn.datasets import load_sample_images

__all__ = ["SIZE", "draw", "has_glyph"]

SIZE = 24
"""Height and width of an image in pixels."""

_CANVAS = 96
_FONT_SIZE = 64
_OVERSAMPLING = 2
_ELASTIC_NODES = 4

Floats = NDArray[np.float32]


def draw(font: str, character: str, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Returns an image (uint8, 24 x 24) of ``character``, light on dark.

    Args:
        font: File name, without ending, of a TrueType font in the matplotlib package.
        character: What to draw; see :func:`has_glyph`.
        rng: Where all that varies comes from.
    """
    shape = _glyph(font, character, int(rng.integers(0, 3)))
    ink = _warped(shape, rng)
    background = _background(rng)
    brightness = rng.uniform(150, 255)
    image = background + ink * np.maximum(brightness - background, 40)
    image += rng.normal(0, rng.uniform(4, 22), image.shape)
    pixels: NDArray[np.uint8] = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return pixels


@cache
def has_glyph(font: str, character: str) -> bool:
    """Returns whether ``font`` can draw ``character`` (fonts draw an empty box for others)."""
    return ord(character) in matplotlib.ft2font.FT2Font(str(_path(font))).get_charmap()


def _path(font: str) -> Path:
    return Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{font}.ttf"


@cache
def _font(font: str) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(str(_path(font)), _FONT_SIZE)


@lru_cache(maxsize=4096)
def _glyph(font: str, character: str, stroke: int) -> Floats:
    """Returns the glyph, centred on a large canvas, values in [0, 1]."""
    canvas = Image.new("L", (_CANVAS, _CANVAS), 0)
    middle = _CANVAS / 2
    left, top, right, bottom = _font(font).getbbox(character, stroke_width=stroke)
    origin = (middle - (left + right) / 2, middle - (top + bottom) / 2)
    ImageDraw.Draw(canvas).text(origin, character, fill=255, font=_font(font), stroke_width=stroke)
    smooth: Floats = gaussian_filter(np.asarray(canvas, dtype=np.float32) / 255, sigma=1.0)
    return smooth


def _warped(shape: Floats, rng: np.random.Generator) -> Floats:
    """Samples the large glyph at the points of a random affine and elastic map, and shrinks it."""
    angle, shear = np.deg2rad(rng.uniform(-15, 15)), rng.uniform(-0.25, 0.25)
    scale = rng.uniform(0.85, 1.35, size=2)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.array([[1, shear], [0, 1]]) @ np.diag(scale)
    num = SIZE * _OVERSAMPLING
    steps = np.linspace(-0.5, 0.5, num) * (_CANVAS * 0.8)
    grid = np.stack(np.meshgrid(steps, steps, indexing="ij"))
    points = np.tensordot(matrix, grid, axes=1) + _elastic(num, rng)
    points += _CANVAS / 2 + rng.uniform(-7, 7, size=(2, 1, 1))
    sampled = map_coordinates(shape, points, order=1, mode="constant")
    small: Floats = sampled.reshape(SIZE, _OVERSAMPLING, SIZE, _OVERSAMPLING).mean(axis=(1, 3))
    return small


def _elastic(num: int, rng: np.random.Generator) -> NDArray[np.float64]:
    """Returns smooth displacements (2 x num x num, canvas pixels), bilinear between a few random nodes."""
    nodes = rng.normal(0, 3.0, size=(2, _ELASTIC_NODES, _ELASTIC_NODES))
    field: NDArray[np.float64] = np.einsum("ia,cab,jb->cij", _hats(num), nodes, _hats(num), optimize=True)
    return field


@cache
def _hats(num: int) -> NDArray[np.float64]:
    """Returns the linear interpolation matrix (num x nodes)."""
    position = np.linspace(0, _ELASTIC_NODES - 1, num)[:, None]
    hats: NDArray[np.float64] = np.maximum(0, 1 - np.abs(position - np.arange(_ELASTIC_NODES)))
    return hats


def _background(rng: np.random.Generator) -> Floats:
    photo = _photographs()[rng.integers(2)]
    row, column = (int(rng.integers(0, side - SIZE)) for side in photo.shape)
    patch = photo[row : row + SIZE, column : column + SIZE]
    dim: Floats = (patch - patch.mean()) * rng.uniform(0.2, 0.7) + rng.uniform(20, 100)
    return dim


@cache
def _photographs() -> list[Floats]:
    return [image.mean(axis=2, dtype=np.float32) for image in load_sample_images().images]
