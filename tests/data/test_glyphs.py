"""Letters drawn from fonts, and the cache of them."""

from importlib import import_module

import pytest
import torch

from packnet_pl.data import drawing, glyphs
from packnet_pl.data.drawing import draw, has_glyph
from packnet_pl.data.glyphs import ALPHABETS, FONTS

# The package has a function of the same name, which an import statement would find.
glyphs_module = import_module("packnet_pl.data.glyphs")

CLASSES = {"latin": 37, "greek": 31, "cyrillic": 32, "armenian": 38, "georgian": 33, "symbols": 33}


def few(folder, alphabet="greek", **kwargs):
    counts = {"train_per_class": 2, "val_per_class": 1, "test_per_class": 1, **kwargs}
    return glyphs(alphabet, **counts, cache_dir=str(folder))


def no_drawing(*_):
    pytest.fail("a letter was drawn, and the cache should have been read")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A folder with one cached alphabet, and its data."""
    folder = tmp_path_factory.mktemp("glyphs")
    return folder, few(folder)


@pytest.mark.parametrize("alphabet", CLASSES)
def test_every_alphabet_has_its_classes_and_sizes(tmp_path, alphabet):
    data = few(tmp_path, alphabet, train_per_class=1)
    classes = CLASSES[alphabet]
    assert len(data.class_names) == len(set(data.class_names)) == classes
    assert data.class_names == tuple(ALPHABETS[alphabet])
    for split in (data.train, data.val, data.test):
        images, labels = split.tensors
        assert images.shape == (classes, 1, 24, 24)
        assert labels.tolist() == list(range(classes))
    assert (data.input_shape, data.mean, data.std) == ((1, 24, 24), (0.35,), (0.25,))


def test_images_are_sorted_by_class_and_normalised(drawn):
    _, data = drawn
    images, labels = data.train.tensors
    assert labels.tolist() == [label for label in range(31) for _ in range(2)]
    pixels = (images * 0.25 + 0.35) * 255
    assert pixels.min() >= -1e-3
    assert pixels.max() <= 255.001
    assert pixels.max() > 200


def test_all_images_differ(drawn):
    _, data = drawn
    images = torch.cat([split.tensors[0] for split in (data.train, data.val, data.test)])
    assert len({image.numpy().tobytes() for image in images}) == len(images) == 31 * 4


def test_drawing_twice_gives_the_same_bytes(drawn, tmp_path):
    (first,) = drawn[0].iterdir()
    few(tmp_path)
    (second,) = tmp_path.iterdir()
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()


def test_other_counts_have_another_cache_file(drawn, monkeypatch):
    def stop(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(drawing, "draw", stop)
    with pytest.raises(ZeroDivisionError):
        few(drawn[0], train_per_class=3)
    assert len(list(drawn[0].iterdir())) == 1


def test_splits_draw_from_fonts_of_their_own_in_turn(tmp_path, monkeypatch):
    used = {"train": set(), "val": set(), "test": set()}
    whole = glyphs_module._draw_split

    def draw_split(alphabet, split, count):
        def note(font, character, rng):
            used[split].add((font, character))
            return draw("DejaVuSans", "A", rng)

        monkeypatch.setattr(drawing, "draw", note)
        return whole(alphabet, split, count)

    monkeypatch.setattr(glyphs_module, "_draw_split", draw_split)
    glyphs("latin", train_per_class=12, val_per_class=4, test_per_class=6, cache_dir=str(tmp_path))
    for split, fonts in FONTS.items():
        assert {font for font, _ in used[split]} == set(fonts)
        assert len(used[split]) == len(fonts) * 37


def test_no_font_is_in_two_splits_and_misleading_ones_are_in_none():
    train, val, test = (set(FONTS[split]) for split in ("train", "val", "test"))
    assert not train & val
    assert not train & test
    assert not val & test
    assert not {"cmsy10", "cmex10", "LastResortHE-Regular", "LastResortHE"} & (train | val | test)


@pytest.mark.parametrize("alphabet", CLASSES)
@pytest.mark.parametrize(("split", "enough"), [("train", 6), ("val", 2), ("test", 2)])
def test_every_class_has_enough_fonts_in_every_split(alphabet, split, enough):
    for character in ALPHABETS[alphabet]:
        assert sum(has_glyph(font, character) for font in FONTS[split]) >= enough, character


@pytest.mark.parametrize("alphabet", ["armenian", "georgian"])
@pytest.mark.parametrize(("split", "number"), [("train", 8), ("val", 2), ("test", 2)])
def test_letters_that_few_fonts_have_come_from_those_of_dejavu(alphabet, split, number):
    for character in ALPHABETS[alphabet]:
        fonts = [font for font in FONTS[split] if has_glyph(font, character)]
        assert len(fonts) == number, character
        assert all(font.startswith("DejaVu") for font in fonts)


@pytest.mark.parametrize("alphabet", CLASSES)
def test_no_class_is_in_another_alphabet_or_has_the_shape_of_another_of_its_own(alphabet):
    others = "".join(letters for name, letters in ALPHABETS.items() if name != alphabet)
    assert not set(ALPHABETS[alphabet]) & set(others)
    shapes = {drawing._glyph("DejaVuSans", character, 0).tobytes() for character in ALPHABETS[alphabet]}
    assert len(shapes) == CLASSES[alphabet]


def test_a_font_without_the_letter_is_known_as_such():
    assert has_glyph("DejaVuSans", "Ж")
    assert not has_glyph("cmr10", "Ж")


def test_inverted_images_are_the_others_turned_round(drawn):
    folder, light = drawn
    dark = few(folder, inverted=True)
    assert (light.mean, light.std) == ((0.35,), (0.25,))
    assert (dark.mean, dark.std) == ((0.65,), (0.25,))
    assert dark.class_names == light.class_names
    for one, other in ((light.train, dark.train), (light.val, dark.val), (light.test, dark.test)):
        pixels, turned = (
            ((split.tensors[0] * data.std[0] + data.mean[0]) * 255).round().to(torch.uint8)
            for split, data in ((one, light), (other, dark))
        )
        assert torch.equal(turned, 255 - pixels)
        torch.testing.assert_close(other.tensors[0], -one.tensors[0], atol=1e-6, rtol=0)
        assert torch.equal(other.tensors[1], one.tensors[1])
    # Most of an image is ground.
    assert (turned.float().mean() > 128) & (pixels.float().mean() < 128)


@pytest.mark.parametrize("first", [False, True])
def test_both_kinds_share_one_cache_file_and_are_not_mixed_up(drawn, tmp_path, monkeypatch, first):
    _, light = drawn
    few(tmp_path, inverted=first)
    monkeypatch.setattr(drawing, "draw", no_drawing)
    kinds = [few(tmp_path, inverted=inverted).test.tensors[0] for inverted in (False, True, False)]
    assert len(list(tmp_path.iterdir())) == 1
    assert torch.equal(kinds[0], light.test.tensors[0])
    assert torch.equal(kinds[2], kinds[0])
    torch.testing.assert_close(kinds[1], -kinds[0], atol=1e-6, rtol=0)


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"alphabet": "klingon"}, r"alphabet is 'klingon'; there are \['armenian', 'cyrillic', 'georgian'"),
        ({"train_per_class": 0}, "train_per_class is 0; allowed is 1 or more"),
        ({"val_per_class": -1}, "val_per_class is -1"),
        ({"test_per_class": 0}, "test_per_class is 0"),
    ],
)
def test_bad_arguments_are_refused_and_nothing_is_written(tmp_path, given, match):
    with pytest.raises(ValueError, match=match):
        few(tmp_path, **given)
    assert list(tmp_path.iterdir()) == []
