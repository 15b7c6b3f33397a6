"""Every format and mode of an image becomes 8-bit grey or RGB."""

import numpy as np
import pytest
import torch
from PIL import Image

from packnet_pl.data.image_files import check_image, read_image
from packnet_pl.image_names import EXTENSIONS
from tests.support.image_folders import COLOUR, GREY, folder, tree, uniform

RED, WHITE, GREY_100 = (255, 0, 0), (255, 255, 255), (100, 100, 100)


def palette(path, **kwargs):
    image = Image.new("P", (9, 9), 1)
    image.putpalette([0, 0, 0, 255, 0, 0])
    image.save(path, **kwargs)


FILES = {
    "rgb.png": (lambda path: uniform(path), RED),
    "rgb.JPG": (lambda path: uniform(path, quality=100), RED),
    "rgb.Jpeg": (lambda path: uniform(path, quality=100), RED),
    "rgb.bmp": (lambda path: uniform(path), RED),
    "rgb.gif": (lambda path: uniform(path), RED),
    "rgb.webp": (lambda path: uniform(path, lossless=True), RED),
    "rgb.tif": (lambda path: uniform(path), RED),
    "rgb.TIFF": (lambda path: uniform(path, compression="tiff_lzw"), RED),
    "rgb.ppm": (lambda path: uniform(path), RED),
    "grey.pgm": (lambda path: uniform(path, 100, mode="L"), GREY_100),
    "grey.PNG": (lambda path: uniform(path, 100, mode="L"), GREY_100),
    "grey.jpg": (lambda path: uniform(path, 100, mode="L"), GREY_100),
    "bit.png": (lambda path: uniform(path, 1, mode="1"), WHITE),
    "bit.tif": (lambda path: uniform(path, 0, mode="1", compression="group4"), (0, 0, 0)),
    "deep.png": (lambda path: uniform(path, 0x8080, mode="I;16"), (128, 128, 128)),
    "dark.png": (lambda path: uniform(path, 300, mode="I;16"), (1, 1, 1)),
    "bright.png": (lambda path: uniform(path, 65535, mode="I;16"), WHITE),
    "deep.tif": (lambda path: uniform(path, 25700, mode="I;16"), GREY_100),
    "deep-big-endian.tif": (lambda path: uniform(path, 25700, mode="I;16B"), GREY_100),
    "deep.pgm": (lambda path: path.write_bytes(b"P5 2 2 65535\n" + b"\x64\x64" * 4), GREY_100),
    "palette.png": (palette, RED),
    "palette-transparent.png": (lambda path: palette(path, transparency=1), WHITE),
    "palette-half.png": (lambda path: palette(path, transparency=b"\xff\x33"), (255, 204, 204)),
    "palette-transparent.gif": (lambda path: palette(path, transparency=1), WHITE),
    "clear.png": (lambda path: uniform(path, (255, 0, 0, 0), mode="RGBA"), WHITE),
    "solid.png": (lambda path: uniform(path, (255, 0, 0, 255), mode="RGBA"), RED),
    "half.png": (lambda path: uniform(path, (255, 0, 0, 51), mode="RGBA"), (255, 204, 204)),
    "half.tif": (lambda path: uniform(path, (255, 0, 0, 51), mode="RGBA"), (255, 204, 204)),
    "clear.webp": (lambda path: uniform(path, (255, 0, 0, 0), mode="RGBA", lossless=True), WHITE),
    "la.png": (lambda path: uniform(path, (0, 51), mode="LA"), (204, 204, 204)),
    "grey-transparent.png": (lambda path: uniform(path, 100, mode="L", transparency=100), WHITE),
    "rgb-transparent.png": (lambda path: uniform(path, transparency=(255, 0, 0)), WHITE),
    "cmyk.jpg": (lambda path: uniform(path, (0, 255, 255, 0), mode="CMYK", quality=100), RED),
    "cmyk.tif": (lambda path: uniform(path, (0, 255, 255, 0), mode="CMYK"), RED),
    "ycbcr.tif": (lambda path: uniform(path, (76, 85, 255), mode="YCbCr"), RED),
    "jpeg-named.png": (lambda path: uniform(path, format="JPEG", quality=100), RED),
    "one-pixel.png": (lambda path: uniform(path, size=(1, 1)), RED),
    "narrow.png": (lambda path: uniform(path, size=(1, 40)), RED),
    "large.jpg": (lambda path: uniform(path, size=(900, 700), quality=100), RED),
}


def test_there_is_a_file_of_every_accepted_ending():
    assert {name.rpartition(".")[2].lower() for name in FILES} == set(EXTENSIONS)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("channels", [1, 3])
def test_every_format_and_mode_becomes_what_was_asked_for(tmp_path, name, channels):
    save, expected = FILES[name]
    for path in (tree(tmp_path) / "test" / "cat").iterdir():
        path.unlink()
    save(tmp_path / "test" / "cat" / name)
    if channels == 1:
        expected = (round(0.299 * expected[0] + 0.587 * expected[1] + 0.114 * expected[2]),)
    image, label = folder(tmp_path, **(COLOUR if channels == 3 else GREY)).test[0]
    assert (image.shape, image.dtype, int(label)) == ((channels, 8, 8), torch.float32, 0)
    wanted = torch.tensor(expected).float().view(-1, 1, 1).expand(-1, 8, 8)
    torch.testing.assert_close(image * 255, wanted, atol=1.5, rtol=0)


@pytest.mark.parametrize("ending", ["jpg", "png", "tif", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_orientation_that_a_camera_noted_is_honoured(tmp_path, ending, orientation):
    upright = np.zeros((32, 64), np.uint8)
    upright[:16, :16] = 255
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"image.{ending}"
    Image.fromarray(np.ascontiguousarray(turned)).save(path, exif=exif)
    found = np.asarray(read_image(str(path), 1)).astype(int)
    assert found.shape == upright.shape
    assert np.abs(found - upright).max() < 60


def test_a_deep_image_is_turned_too(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.array([[0, 65535]], np.uint16)).save(tmp_path / "deep.png", exif=exif)
    assert np.asarray(read_image(str(tmp_path / "deep.png"), 1)).tolist() == [[0], [255]]


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_a_damaged_note_of_the_orientation_does_not_cost_the_image(tmp_path, ending):
    path = uniform(tmp_path / f"image.{ending}", 100, mode="L", exif=b"Exif\x00\x00garbage, no TIFF header")
    assert read_image(str(path), 1).getpixel((0, 0)) == 100


def test_deep_images_are_rounded(tmp_path):
    values = [0, 128, 129, 385, 386, 65406, 65407, 65535]
    Image.fromarray(np.array([values], np.uint16)).save(tmp_path / "deep.png")
    expected = [[round(value * 255 / 65535) for value in values]]
    assert np.asarray(read_image(str(tmp_path / "deep.png"), 1)).tolist() == expected


def test_a_moving_image_gives_its_first_frame(tmp_path):
    frames = [Image.new("RGB", (9, 9), color) for color in ("red", "blue")]
    for ending in ("gif", "webp", "tif"):
        path = tmp_path / f"moving.{ending}"
        frames[0].save(
            path, save_all=True, append_images=frames[1:], **({"lossless": True} if ending == "webp" else {})
        )
        assert read_image(str(path), 3).getpixel((4, 4)) == RED


def test_a_jpeg_may_come_reduced_but_not_below_twice_what_is_needed(tmp_path):
    uniform(tmp_path / "large.jpg", size=(900, 700))
    sizes = {side: read_image(str(tmp_path / "large.jpg"), 3, at_least=side).size for side in (40, 100, 176, 600)}
    assert sizes == {40: (113, 88), 100: (450, 350), 176: (900, 700), 600: (900, 700)}


# --- what is no image ------------------------------------------------------------------------------------------


def damaged(path):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


NO_IMAGES = {
    "text.jpg": lambda path: path.write_text("no image"),
    "empty.png": lambda path: path.touch(),
    "postscript.png": lambda path: Image.new("RGB", (4, 4)).save(path, format="EPS"),
    "other-format.png": lambda path: Image.new("RGB", (4, 4)).save(path, format="PCX"),
    "floating.tif": lambda path: Image.new("F", (4, 4), 0.5).save(path),
    "beyond.tif": lambda path: Image.new("I", (4, 4), 70000).save(path),
    "negative.tif": lambda path: Image.new("I", (4, 4), -1).save(path),
    **{f"half.{ending}": damaged for ending in ("jpg", "png", "bmp", "webp", "tif", "ppm")},
}


@pytest.mark.parametrize("name", NO_IMAGES)
def test_what_cannot_be_read_is_named(tmp_path, name):
    path = tmp_path / name
    NO_IMAGES[name](path)
    with pytest.raises(ValueError, match="cannot be read as an image: ") as caught:
        read_image(str(path), 3)
    assert f": {path} (" in str(caught.value)
    assert "replace the file or delete it" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["text.jpg", "empty.png", "postscript.png", "other-format.png"])
def test_what_does_not_begin_as_an_image_is_found_without_reading_it(tmp_path, name):
    NO_IMAGES[name](tmp_path / name)
    with pytest.raises(ValueError, match=f"cannot be read as an image: .*{name} "):
        check_image(str(tmp_path / name))
