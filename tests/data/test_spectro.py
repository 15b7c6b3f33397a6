"""Spectrograms of sounds: the data set, and what each kind of sound looks like without noise."""

import subprocess
import sys
from importlib import import_module

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from packnet_pl.data import sounds, spectro
from packnet_pl.data.sounds import SOUNDS, listen

# The package has a function of the same name, which an import statement would find.
spectro_module = import_module("packnet_pl.data.spectro")

NAMES = tuple(SOUNDS)


def few(folder, **kwargs):
    return spectro(**{"train_per_class": 3, "val_per_class": 2, "test_per_class": 2, **kwargs}, cache_dir=str(folder))


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """A folder with a cached data set, and its data."""
    folder = tmp_path_factory.mktemp("spectro")
    return folder, few(folder)


def test_every_class_has_its_images_in_every_split(drawn):
    _, data = drawn
    assert data.class_names == NAMES
    assert len(set(NAMES)) == 16
    for split, count in ((data.train, 3), (data.val, 2), (data.test, 2)):
        images, labels = split.tensors
        assert (images.shape, images.dtype, labels.dtype) == ((16 * count, 1, 24, 24), torch.float32, torch.int64)
        assert labels.tolist() == [label for label in range(16) for _ in range(count)]
    assert (data.input_shape, data.mean, data.std) == ((1, 24, 24), (0.25,), (0.18,))


def test_the_default_sizes_are_those_of_the_benchmark(monkeypatch):
    asked = []
    monkeypatch.setattr(spectro_module, "drawn_splits", lambda name, recipe, counts, *_: asked.append(counts) or [])
    with pytest.raises(ValueError, match="not enough values"):
        spectro()
    assert asked == [{"train": 80, "val": 20, "test": 100}]


def test_pixels_are_those_of_the_images(drawn):
    _, data = drawn
    pixels = (data.train.tensors[0] * 0.18 + 0.25) * 255
    rng = np.random.default_rng(spectro_module.derive_seed(spectro_module._SEED, "train", "two tones", 2))
    expected = torch.from_numpy(listen("two tones", rng)).float()
    torch.testing.assert_close(pixels[NAMES.index("two tones") * 3 + 2, 0], expected, atol=1e-3, rtol=0)
    assert pixels.min() >= -1e-3
    assert pixels.max() <= 255.001
    assert pixels.max() > 200


def test_mean_and_deviation_are_about_those_of_the_pixels(tmp_path):
    data = few(tmp_path, train_per_class=20)
    assert abs(data.train.tensors[0].mean()) < 0.15
    assert abs(data.train.tensors[0].std() - 1) < 0.15


def test_all_images_differ(drawn):
    _, data = drawn
    images = torch.cat([split.tensors[0] for split in (data.train, data.val, data.test)])
    assert len({image.numpy().tobytes() for image in images}) == len(images) == 16 * 7


def test_every_image_has_a_seed_of_its_own(tmp_path, monkeypatch):
    seeds = []

    def note(*parts):
        seeds.append(parts)
        return len(seeds)

    monkeypatch.setattr(spectro_module, "derive_seed", note)
    few(tmp_path)
    assert len(set(seeds)) == len(seeds) == 16 * 7
    assert {split for _, split, _, _ in seeds} == {"train", "val", "test"}
    assert {name for _, _, name, _ in seeds} == set(NAMES)


def test_a_split_does_not_depend_on_the_sizes_of_the_others(drawn, tmp_path):
    _, data = drawn
    other = few(tmp_path, train_per_class=1, val_per_class=1)
    assert torch.equal(other.test.tensors[0], data.test.tensors[0])
    assert torch.equal(other.train.tensors[0], data.train.tensors[0][::3])


@pytest.mark.slow
def test_another_process_draws_the_same_bytes(drawn, tmp_path):
    (first,) = drawn[0].iterdir()
    code = "import sys; from packnet_pl.data import spectro; "
    code += "spectro(train_per_class=3, val_per_class=2, test_per_class=2, cache_dir=sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    (second,) = tmp_path.iterdir()
    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()


def test_the_cache_holds_bytes_sorted_by_class(drawn):
    (path,) = drawn[0].iterdir()
    tensors = load_file(path)
    assert tensors["val.images"].dtype == torch.uint8
    assert tensors["val.labels"].tolist() == [label for label in range(16) for _ in range(2)]


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("count", [0, -1])
def test_numbers_below_one_are_refused_and_nothing_is_written(tmp_path, split, count):
    with pytest.raises(ValueError, match=f"^{split}_per_class is {count}; allowed is 1 or more$"):
        few(tmp_path, **{f"{split}_per_class": count})
    assert list(tmp_path.iterdir()) == []


# What each kind looks like: without background, in many draws. Row 0 is the highest frequency.


@pytest.fixture
def pure(monkeypatch):
    """A function from a kind to images (24 x 24) of 40 draws without background, the columns of the sound alone."""
    monkeypatch.setattr(sounds, "_background", lambda rng: np.zeros(sounds._LENGTH))

    def draws(name):
        for index in range(40):
            image = listen(name, np.random.default_rng([7, index])).astype(int)
            heard = np.flatnonzero(image.max(axis=0))
            assert len(heard) > 0, (name, index)
            # The outermost columns hold a part of the sound's ends.
            yield image[:, heard[0] : heard[-1] + 1]

    return draws


def ridge(image):
    """The loudest frequency, 0 to 23, of each column that is heard, the first and the last left out."""
    inner = image[:, 1:-1]
    return 23 - inner.argmax(axis=0)[inner.max(axis=0) > 0]


def bands(lit):
    """The number of runs of True."""
    return int(lit[0]) + int((lit[1:] & ~lit[:-1]).sum())


def lines(image):
    """The number of separate lines in the middle of the sound's time."""
    column = image[:, image.shape[1] // 2]
    inner = column[1:-1]
    peaks = (inner > column[:-2]) & (inner >= column[2:]) & (inner > column.max() / 2)
    return int(peaks.sum()) + int(column[0] > column[1]) + int(column[-1] > column[-2])


def test_a_tone_stays_where_it_is(pure):
    for image in pure("tone"):
        assert np.ptp(ridge(image)) <= 1


@pytest.mark.parametrize(("kind", "sign"), [("rising chirp", 1), ("falling chirp", -1)])
def test_a_chirp_goes_one_way(pure, kind, sign):
    for image in pure(kind):
        steps = sign * np.diff(ridge(image))
        assert steps.min() >= 0
        assert steps.sum() >= 2


@pytest.mark.parametrize(("kind", "sign"), [("up-down sweep", 1), ("down-up sweep", -1)])
def test_a_sweep_turns_once(pure, kind, sign):
    for image in pure(kind):
        steps = sign * np.diff(ridge(image))
        turn = int(np.cumsum(steps).argmax()) + 1
        assert steps[:turn].min() >= 0
        assert steps[turn:].max() <= 0
        assert steps[:turn].sum() >= 2
        assert steps[turn:].sum() <= -2


@pytest.mark.parametrize(("kind", "sign"), [("rising step", 1), ("falling step", -1)])
def test_a_step_has_two_levels(pure, kind, sign):
    for image in pure(kind):
        levels = sign * ridge(image)
        assert levels[-1] - levels[0] >= 2
        assert (np.abs(np.diff(levels)) >= 2).sum() == 1


def test_vibrato_goes_up_and_down_several_times(pure):
    for image in pure("vibrato"):
        steps = np.diff(ridge(image))
        turns = np.sign(steps[steps != 0])
        assert (turns[1:] != turns[:-1]).sum() >= 3


def test_tremolo_stays_where_it_is_and_goes_off_several_times(pure):
    for image in pure("tremolo"):
        row = image[image.sum(axis=1).argmax()]
        assert (np.diff(np.sign(np.diff(row))) < 0).sum() >= 2
        assert np.ptp(ridge(image)) <= 1


def test_two_tones_are_two_lines_and_harmonics_more(pure):
    assert {lines(image) for image in pure("two tones")} == {2}
    assert {lines(image) for image in pure("harmonics")} == {3, 4, 5}


def test_crossing_chirps_are_two_lines_that_meet_in_the_middle(pure):
    for image in pure("crossing chirps"):
        rows = np.arange(24)[:, None]
        spread = []
        for part in (
            image[:, 1:3],
            image[:, image.shape[1] // 2 - 1 : image.shape[1] // 2 + 1],
            image[:, -3:-1],
        ):
            lit = (part > part.max() / 2) * rows
            spread.append(np.ptp(lit[lit > 0]))
        assert spread[1] < min(spread[0], spread[2])


def test_clicks_have_all_frequencies_once_or_three_to_five_times(pure):
    def heard(image):
        return bands((image > 0).all(axis=0))

    assert {heard(image) for image in pure("click")} == {1}
    assert {heard(image) for image in pure("pulse train")} == {3, 4, 5}
    assert {image.shape[1] for image in pure("click")} <= {1, 2}


def test_a_burst_has_all_frequencies_and_a_band_has_not(pure):
    for image in pure("noise burst"):
        assert (image[1:-1, 1:-1].mean(axis=1) > 20).all()
        assert image.shape[1] >= 3
    for image in pure("noise band"):
        rows = image[:, 1:-1].mean(axis=1)
        assert 3 <= (rows > rows.max() / 2).sum() <= 14


def test_low_frequencies_are_at_the_bottom(monkeypatch):
    monkeypatch.setattr(sounds, "_background", lambda rng: np.zeros(sounds._LENGTH))
    monkeypatch.setitem(SOUNDS, "low", lambda t, rng: sounds._oscillation(np.full_like(t, 5 / 46), rng))
    assert (23 - listen("low", np.random.default_rng(0)).sum(axis=1).argmax()) == 5
