"""How the page about deployment prepares images is how this package does."""

import numpy as np
import pytest
from PIL import Image

from packnet_pl.data.processing import Processing
from packnet_pl.models import Preparation
from tests.support import ROOT
from tests.support.pages import blocks

PAGE = (ROOT / "docs" / "predict.md").read_text("utf-8")


@pytest.fixture
def prepared():
    names = {}
    exec(next(block.text for block in blocks(PAGE) if block.mark == ("file", "prepare.py")), names)
    return names["prepared"]


def noise(width, height, mode):
    shape = (height, width, len(mode)) if len(mode) > 1 else (height, width)
    return Image.fromarray(np.random.default_rng(0).integers(256, size=shape, dtype=np.uint8), mode)


@pytest.fixture
def images(tmp_path):
    turned = Image.Exif()
    turned[0x0112] = 6
    noise(301, 220, "RGB").save(tmp_path / "large.jpg")
    noise(50, 41, "RGB").save(tmp_path / "turned.jpg", exif=turned)
    noise(33, 50, "RGBA").save(tmp_path / "transparent.png")
    noise(40, 40, "L").save(tmp_path / "grey.png")
    Image.fromarray(np.arange(40 * 60, dtype=np.uint16).reshape(40, 60) * 27).save(tmp_path / "sixteen.png")
    noise(64, 31, "L").convert("P").save(tmp_path / "palette.gif")
    return sorted(tmp_path.iterdir())


@pytest.mark.parametrize(
    "preparation",
    [
        Preparation("L", (24, 24), 27),
        Preparation("RGB", (24, 24), 25, interpolation="bicubic"),
        Preparation("RGB", (24, 20)),
        Preparation("RGB", (24, 24), 30, squash=True),
    ],
    ids=["grey", "bicubic", "squashed", "squashed and cut"],
)
def test_the_page_prepares_images_as_the_package_does(prepared, images, preparation):
    channels = len(preparation.colour)
    mean, std = (0.4, 0.5, 0.6)[:channels], (0.2, 0.25, 0.3)[:channels]
    about = {"preparation": preparation.dump(), "mean": list(mean), "std": list(std)}
    for path in images:
        expected = Processing(preparation, mean, std).item(str(path)).numpy()
        np.testing.assert_allclose(prepared(path, about)[0], expected, atol=1e-6, err_msg=path.name)
