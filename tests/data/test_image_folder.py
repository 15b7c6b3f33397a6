"""Folders of images: which images they are, the validation split, and what is done to an image."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from packnet_pl.data import image_folder
from tests.support.image_folders import COLOUR, GREY, folder, tree, uniform, values


def test_classes_splits_shapes_and_values(tmp_path):
    data = folder(tree(tmp_path, val=1), **COLOUR)
    assert data.class_names == ("cat", "dog")
    assert (data.input_shape, data.mean, data.std) == ((3, 8, 8), (0.0,) * 3, (1.0,) * 3)
    assert values(data.train) == [(1, 0), (2, 0), (3, 0), (4, 1), (5, 1), (6, 1)]
    assert values(data.val) == [(7, 0), (8, 1)]
    assert values(data.test) == [(9, 0), (10, 0), (11, 1), (12, 1)]
    image, label = data.train[0]
    assert (image.shape, image.dtype) == ((3, 8, 8), torch.float32)
    assert (label.shape, label.dtype) == ((), torch.int64)


def test_the_defaults_are_those_of_pretrained_backbones(tmp_path):
    data = image_folder(str(tree(tmp_path)))
    assert data.input_shape == (3, 224, 224)
    expected = (7 / 255 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    torch.testing.assert_close(data.test[0][0], expected.view(3, 1, 1).expand(3, 224, 224))
    assert image_folder(tmp_path, image_size=None, channels=None).input_shape == (3, 224, 224)
    grey = folder(tmp_path, channels=1)
    assert (grey.input_shape, grey.mean, grey.std) == ((1, 8, 8), (0.5,), (0.25,))
    torch.testing.assert_close(grey.test[0][0], torch.full((1, 8, 8), (7 / 255 - 0.5) / 0.25))


def test_each_channel_is_normalised_by_its_own_numbers(tmp_path):
    uniform(tree(tmp_path) / "test" / "cat" / "00.png", (255, 0, 51))
    image, _ = folder(tmp_path, mean=[0.5, 0.25, 0], std=(0.5, 0.25, 2)).test[0]
    torch.testing.assert_close(image[:, 4, 4], torch.tensor([1.0, -1.0, 0.1]))


# --- the validation split ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "fraction", "left", "val"),
    [(20, 0.1, 18, 2), (20, 0.25, 15, 5), (20, 0.001, 19, 1), (20, 0.999, 1, 19), (2, 0.1, 1, 1), (2, 0.9, 1, 1)],
)
def test_validation_is_a_share_of_each_class_and_disjoint_from_training(tmp_path, train, fraction, left, val):
    data = folder(tree(tmp_path, train=train), val_fraction=fraction, **COLOUR)
    found = {"train": values(data.train), "val": values(data.val)}
    for name, count in (("train", left), ("val", val)):
        labels = [label for _, label in found[name]]
        assert labels == [0] * count + [1] * count
    assert sorted(found["train"] + found["val"]) == [
        (number, (number - 1) // train) for number in range(1, 2 * train + 1)
    ]
    assert len(data.test) == 4


def test_validation_images_follow_from_the_seed_and_from_nothing_else(tmp_path):
    tree(tmp_path / "a", train=20)
    chosen = [values(folder(tmp_path / "a", seed=seed, **COLOUR).val) for seed in range(4)]
    assert len({tuple(found) for found in chosen}) == 4
    torch.manual_seed(7)
    before = torch.get_rng_state()
    assert values(folder(tmp_path / "a", seed=3, **COLOUR).val) == chosen[3]
    assert torch.equal(torch.get_rng_state(), before)
    (tmp_path / "a").rename(tmp_path / "b")
    assert values(folder(tmp_path / "b", seed=3, **COLOUR).val) == chosen[3]
    # Each class is cut on its own: a further class leaves the others as they were.
    for split in ("train", "test"):
        uniform(tmp_path / "b" / split / "ant" / "0.png", (99,) * 3)
        uniform(tmp_path / "b" / split / "ant" / "1.png", (98,) * 3)
    found = values(folder(tmp_path / "b", seed=3, **COLOUR).val)
    assert [(number, label - 1) for number, label in found if label] == chosen[3]


def test_classes_are_cut_differently(tmp_path):
    data = folder(tree(tmp_path, train=20), val_fraction=0.25, **COLOUR)
    cat, dog = ([number % 20 for number, label in values(data.val) if label == wanted] for wanted in (0, 1))
    assert cat != dog


# --- which files are images, and where -------------------------------------------------------------------------


def test_other_files_and_hidden_ones_are_ignored(tmp_path):
    tree(tmp_path)
    expected = [values(split) for split in (folder(tmp_path, **COLOUR).train, folder(tmp_path, **COLOUR).test)]
    for place in (tmp_path, tmp_path / "train", tmp_path / "train" / "cat", tmp_path / "test" / "dog"):
        for name in (".DS_Store", "._00.png", "Thumbs.db", "notes.txt", "png", "00.png.txt", ".hidden.png"):
            (place / name).write_bytes(b"no image")
    (tmp_path / "train" / ".ipynb_checkpoints").mkdir()
    (tmp_path / "train" / "cat" / "folder.png").mkdir()
    data = folder(tmp_path, **COLOUR)
    assert [values(data.train), values(data.test)] == expected


def test_links_to_the_root_to_a_class_and_to_a_file_are_followed(tmp_path):
    tree(tmp_path / "real")
    for split in ("train", "test"):
        (tmp_path / "linked" / split).mkdir(parents=True)
        for name in ("cat", "dog"):
            (tmp_path / "linked" / split / name).symlink_to(Path("..", "..", "real", split, name))
    (tmp_path / "root").symlink_to("linked")
    uniform(tmp_path / "elsewhere.png", (200,) * 3)
    (tmp_path / "real" / "test" / "cat" / "link.png").symlink_to(tmp_path / "elsewhere.png")
    data = folder(tmp_path / "root", **COLOUR)
    assert values(data.test) == [(7, 0), (8, 0), (200, 0), (9, 1), (10, 1)]
    assert len(data.train) == 4


@pytest.mark.parametrize("name", ["with space", "a=b", "日本 été", "per%cent,[x]{y}", "~", "'quoted\""])
def test_any_name_of_a_folder_and_of_a_class_will_do(tmp_path, name):
    data = folder(tree(tmp_path / name, classes=(name, "z 猫=1")), **COLOUR)
    assert data.class_names == tuple(sorted((name, "z 猫=1")))
    assert len(values(data.train)) == 4


def test_the_tilde_is_the_home_folder_and_a_relative_path_is_kept_as_what_it_was(tmp_path, monkeypatch):
    tree(tmp_path / "set")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(folder("~/set").test) == 4
    monkeypatch.chdir(tmp_path)
    data = folder("set")
    monkeypatch.chdir("/")
    assert len(list(data.test)) == 4


# --- what is done to an image -----------------------------------------------------------------------------------


def ramp(path, size=(256, 256)):
    """Brightness rises from 0 at the left by 1 per pixel."""
    Image.fromarray(np.tile(np.arange(size[0], dtype=np.uint8), (size[1], 1))).save(path)
    return path


def test_evaluation_resizes_the_shorter_side_and_cuts_out_the_middle(tmp_path):
    path = ramp(tree(tmp_path) / "test" / "cat" / "00.png", size=(256, 128))
    # 112 x 256 / 224 is 128: nothing to resize.
    pixels = folder(tmp_path, image_size=112, **GREY).test[0][0] * 255
    torch.testing.assert_close(pixels[0, 0], torch.arange(72.0, 184.0))
    for image_size, resize, side in ((35, None, 40), (35, 64, 64), (35, 35, 35)):
        with Image.open(path) as image:
            expected = v2.functional.center_crop(v2.functional.resize(image, [side], antialias=True), [image_size])
        found = folder(tmp_path, image_size=image_size, resize=resize, **GREY).test[0][0]
        torch.testing.assert_close(found * 255, v2.functional.pil_to_tensor(expected).float())


@pytest.mark.parametrize(("augment", "mirrors"), [("flip_crop", True), ("crop", False), ("none", False)])
def test_training_crops_and_mirrors_as_it_was_told(tmp_path, augment, mirrors):
    ramp(tree(tmp_path, val=1) / "train" / "cat" / "00.png")
    data = folder(tmp_path, image_size=128, resize=256, **{**GREY, "augment": augment})
    torch.manual_seed(0)
    rows = [(data.train[0][0][0, 0] * 255).round() for _ in range(20)]
    assert {float(row[0] > row[-1]) for row in rows} == ({0.0, 1.0} if mirrors else {0.0})
    lefts = {float(row.min()) for row in rows}
    assert lefts == {64.0} if augment == "none" else len(lefts) > 10
    assert (data.train.random, data.val.random, data.test.random) == (augment != "none", False, False)


def test_images_are_read_only_when_they_are_asked_for(tmp_path):
    tree(tmp_path)
    data = folder(tmp_path, **COLOUR)
    uniform(tmp_path / "test" / "cat" / "00.png", (250,) * 3)
    assert values(data.test)[0] == (250, 0)
    (tmp_path / "test" / "cat" / "00.png").unlink()
    with pytest.raises(ValueError, match="cannot be read as an image"):
        data.test[0]


# --- a share of it -----------------------------------------------------------------------------------------------


def test_a_share_keeps_every_class_however_rare(tmp_path):
    tree(tmp_path, train=30, val=1)
    for index in range(2):
        for split in ("train", "val", "test"):
            uniform(tmp_path / split / "rare" / f"{index}.png", (240 + index,) * 3)
    taken = folder(tmp_path, **COLOUR).take(0.1)
    assert [label for _, label in values(taken.train)] == [0, 0, 0, 1, 1, 1, 2]
    assert [label for _, label in values(taken.test)] == [0, 1, 2]
