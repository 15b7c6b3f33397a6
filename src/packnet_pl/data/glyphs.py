"""Letters of several alphabets and symbols, drawn from the fonts in the matplotlib package and cached."""

from functools import partial

import numpy as np
import torch
from PIL import features
from torch import Tensor

from packnet_pl.data.drawn_augmentation import AFFINE, augmented, drawn_augmentation
from packnet_pl.data.image_cache import drawn_splits
from packnet_pl.data.seeding import derive_seed
from packnet_pl.data.task_data import DRAWN, TaskData, image_tensors

__all__ = ["ALPHABETS", "FONTS", "glyphs"]

# Raise it when the images change: old caches are then left alone.
_VERSION = 1
_SEED = 20180618
MEAN, STD = 0.35, 0.25

ALPHABETS = {
    # Lower case only where it does not look like upper case, so that every class is one shape.
    "latin": "ABCDEFGHIJKLMNOPQRSTUVWXYZabdefghnqrt",
    "greek": "ΓΔΘΛΞΠΣΦΨΩαβγδεζηθικλμξπρστφχψω",
    "cyrillic": "АБВГДЕЖЗИЙКЛМНОПРСТУФХЦЧШЩЪЫЬЭЮЯ",
    "armenian": "ԱԲԳԴԵԶԷԸԹԺԻԼԽԾԿՀՁՂՃՄՅՆՇՈՉՊՋՌՍՎՏՐՑՒՓՔՕՖ",
    "georgian": "აბგდევზთიკლმნოპჟრსტუფქღყშჩცძწჭხჯჰ",
    # None that is a Greek letter (∏, ∑), and none that turns into another by a sixth of a right angle.
    "symbols": "←↑→↓↔↕↖↗↘↙⇐⇑⇒⇓⇔∀∃∇∈∋∓√∝∞∫≈≠≡≤≥⊂⊃⊥",
}

# Whole fonts are held out, so that test and validation ask for letter shapes never seen. The fonts cmsy10, cmex10 and
# LastResortHE are left out: their character maps claim Latin letters but hold symbols. Armenian and Georgian are in the
# fonts of DejaVu alone (8, 2 and 2), symbols in these and in two more of test (STIXGeneral, STIXGeneralBol).
FONTS = {
    "train": (
        "DejaVuSans",
        "DejaVuSans-Bold",
        "DejaVuSans-BoldOblique",
        "DejaVuSansMono",
        "DejaVuSansMono-Oblique",
        "DejaVuSansMono-BoldOblique",
        "DejaVuSerif",
        "DejaVuSerif-BoldItalic",
        "STIXGeneralBolIta",
        "cmb10",
        "cmti10",
        "cmmi10",
    ),
    "val": ("DejaVuSans-Oblique", "DejaVuSerif-Bold", "STIXGeneralItalic", "cmr10"),
    "test": ("DejaVuSansMono-Bold", "DejaVuSerif-Italic", "STIXGeneral", "STIXGeneralBol", "cmss10", "cmtt10"),
}


def glyphs(
    alphabet: str,
    *,
    train_per_class: int,
    val_per_class: int = 20,
    test_per_class: int = 50,
    inverted: bool = False,
    cache_dir: str | None = None,
    augment: str = "none",
) -> TaskData:
    """Returns an alphabet as 24 x 24 grey images; validation and test use fonts that training never sees.

    Args:
        alphabet: "latin" (37 classes), "greek" (31), "cyrillic" (32), "armenian" (38), "georgian" (33), or "symbols"
            (33 arrows and mathematical signs).
        train_per_class: Training images per letter.
        val_per_class: Validation images per letter.
        test_per_class: Test images per letter.
        inverted: Dark letters on a light ground: each pixel value v in [0, 1] becomes 1 - v. So does the mean that is
            subtracted: normalised, the images are the negatives of those of light letters.
        cache_dir: Where drawn images are kept; None is ``packnet_pl`` in the user's cache folder.
        augment: Of training images: "none" or "affine"; see ``packnet_pl.data.drawn_augmentation``.

    Raises:
        ValueError: If the alphabet or ``augment`` is unknown or a number is below 1.
    """
    if alphabet not in ALPHABETS:
        raise ValueError(f"alphabet is {alphabet!r}; there are {sorted(ALPHABETS)}")
    change = drawn_augmentation(augment, AFFINE)
    counts = {"train": train_per_class, "val": val_per_class, "test": test_per_class}
    # FreeType draws slightly differently from version to version: each has its own cache file.
    recipe = [_VERSION, _SEED, ALPHABETS[alphabet], FONTS, counts, features.version("freetype2")]
    splits = drawn_splits(alphabet, recipe, counts, partial(_draw_split, alphabet), cache_dir)
    # Kept as they are drawn, light on dark, and turned round on reading: one file serves both.
    mean = 1 - MEAN if inverted else MEAN
    train, val, test = (
        image_tensors(255 - images if inverted else images, labels, mean, STD) for images, labels in splits
    )
    return TaskData(
        augmented(train, change), val, test, tuple(ALPHABETS[alphabet]), (1, 24, 24), (mean,), (STD,), DRAWN
    )


def _draw_split(alphabet: str, split: str, count: int) -> tuple[Tensor, Tensor]:
    """Draws ``count`` images of each letter, the split's fonts in turn; sorted by class."""
    # Seconds to import, and only where nothing is in the cache.
    from packnet_pl.data.drawing import draw, has_glyph

    images, labels = [], []
    for label, character in enumerate(ALPHABETS[alphabet]):
        fonts = [font for font in FONTS[split] if has_glyph(font, character)]
        for index in range(count):
            rng = np.random.default_rng(derive_seed(_SEED, alphabet, split, character, index))
            images.append(draw(fonts[index % len(fonts)], character, rng))
            labels.append(label)
    return torch.from_numpy(np.stack(images)), torch.tensor(labels, dtype=torch.int64)
