"""What is wrong with a folder of images, or with what was said about it, is found before a run begins."""

import re
import shutil
from pathlib import Path

import pytest

from tests.support.image_folders import folder, tree, uniform


def refused(error, path, *said, **kwargs):
    with pytest.raises(error) as caught:
        folder(path, **kwargs)
    message = str(caught.value)
    assert "\n" not in message
    for part in said:
        assert str(part) in message
    return message


# --- folders -----------------------------------------------------------------------------------------------------


def test_a_missing_folder_is_named_in_full_with_what_is_expected(tmp_path, monkeypatch):
    layout = f"expected are {tmp_path}/set/train/CLASS/* and {tmp_path}/set/test/CLASS/*"
    refused(FileNotFoundError, tmp_path / "set", f"there is no folder {tmp_path}/set", layout)
    monkeypatch.chdir(tmp_path)
    refused(FileNotFoundError, "set", f"there is no folder {tmp_path}/set", layout)
    monkeypatch.setenv("HOME", str(tmp_path))
    refused(FileNotFoundError, "~/set", f"there is no folder {tmp_path}/set", layout)
    refused(FileNotFoundError, "~nobody-of-this-name/set", "there is no folder")
    (tmp_path / "set").touch()
    refused(FileNotFoundError, "set", f"there is no folder {tmp_path}/set", layout)


@pytest.mark.parametrize("path", [None, ""])
def test_a_path_that_was_not_given_is_asked_for(path):
    refused(ValueError, path, f"path is {path!r}; name the folder that holds train/CLASS/* and test/CLASS/*")


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_missing_split_is_named(tmp_path, split):
    shutil.rmtree(tree(tmp_path) / split)
    refused(FileNotFoundError, tmp_path, f"{tmp_path} has no folder {split}/; expected are ")


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_a_class_that_is_missing_or_empty_in_a_split_is_named(tmp_path, split):
    gone = tree(tmp_path, val=1) / split / "dog"
    for path in gone.iterdir():
        path.rename(path.with_suffix(".txt"))
    refused(ValueError, tmp_path, f"class 'dog' has no image in {gone}", "jpg, jpeg, png, bmp, gif, webp, tif")
    shutil.rmtree(gone)
    other = tmp_path / ("val" if split == "train" else "train")
    refused(ValueError, tmp_path, f"class 'dog' is in {other}, but {tmp_path / split} has no such folder")


def test_images_deeper_down_do_not_count(tmp_path):
    folder_of_class = tree(tmp_path) / "train" / "cat"
    (folder_of_class / "images").mkdir()
    for path in folder_of_class.glob("*.png"):
        path.rename(folder_of_class / "images" / path.name)
    refused(ValueError, tmp_path, f"class 'cat' has no image in {folder_of_class}; files directly in it")


def test_one_class_or_none_is_too_few(tmp_path):
    for split in ("train", "test"):
        (tmp_path / split).mkdir()
        uniform(tmp_path / split / "loose.png")
    refused(ValueError, tmp_path, f"{tmp_path} has no class folder; at least two", "expected are ")
    tree(tmp_path, classes=("cat",))
    refused(ValueError, tmp_path, f"{tmp_path} has only the class 'cat'; at least two classes are needed")


def test_a_class_with_one_training_image_needs_a_validation_folder(tmp_path):
    tree(tmp_path, train=1)
    path = tmp_path / "train" / "cat" / "00.png"
    refused(ValueError, tmp_path, f"class 'cat' has one training image, {path}; without a folder val/")
    for name in ("cat", "dog"):
        uniform(tmp_path / "val" / name / "0.png")
    assert len(folder(tmp_path).train) == 2


# --- files -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_the_first_image_of_each_class_is_looked_at(tmp_path, split):
    bad = tree(tmp_path, val=1) / split / "dog" / "00.png"
    bad.write_bytes(b"no image")
    refused(ValueError, tmp_path, f"cannot be read as an image: {bad} (", "replace the file or delete it")


def test_a_damaged_image_found_later_is_named(tmp_path):
    bad = tree(tmp_path) / "test" / "cat" / "01.png"
    bad.write_bytes(b"no image")
    data = folder(tmp_path)
    assert data.test[0][1] == 0
    with pytest.raises(ValueError, match=f"cannot be read as an image: {re.escape(str(bad))}"):
        data.test[1]


def test_a_link_that_leads_nowhere_is_named(tmp_path):
    link = tree(tmp_path) / "train" / "cat" / "gone.png"
    link.symlink_to(tmp_path / "nowhere.png")
    refused(ValueError, tmp_path, f"{link} is a link that leads nowhere; mend it or delete it")
    link.unlink()
    (tmp_path / "test" / "bird").symlink_to("bird")
    refused(ValueError, tmp_path, f"{tmp_path / 'test' / 'bird'} is a link that leads nowhere")


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("name", ["cat", "dog"])
def test_a_file_that_is_there_twice_is_named(tmp_path, split, name):
    first = tree(tmp_path, val=1) / "train" / "cat" / "00.png"
    second = tmp_path / split / name / "linked.png"
    second.symlink_to(first)
    refused(ValueError, tmp_path, first, second, "are the same file; leave only one of them")


def test_a_split_or_class_that_is_a_link_to_another_is_noticed(tmp_path):
    shutil.rmtree(tree(tmp_path) / "test")
    (tmp_path / "test").symlink_to("train")
    first, second = (Path(tmp_path, split, "cat", "00.png") for split in ("train", "test"))
    refused(ValueError, tmp_path, f"{first} and {second} are the same file")
    (tmp_path / "test").unlink()
    tree(tmp_path)
    (tmp_path / "train" / "wolf").symlink_to("dog")
    (tmp_path / "test" / "wolf").symlink_to("dog")
    refused(ValueError, tmp_path, "dog/00.png and ", "wolf/00.png are the same file")


# --- arguments ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"channels": 2}, "channels is 2; allowed is 1 (luminance) or 3 (RGB)"),
        ({"image_size": 0}, "image_size is 0; allowed is 1 or more pixels"),
        ({"image_size": 8, "resize": 7}, "resize is 7; allowed is None, image_size (8) or more pixels, or the share"),
        (
            {"image_size": 8, "resize": 1.2},
            "resize is 1.2; allowed is None, image_size (8) or more pixels",
        ),
        ({"interpolation": "nearest"}, "interpolation is 'nearest'; allowed are ['bilinear', 'bicubic']"),
        ({"augment": "mixup"}, "augment is 'mixup'; there are ['flip_crop', 'crop', 'flip', 'none']"),
        ({"augment": None}, "augment is None; there are"),
        ({"val_fraction": 0}, "val_fraction is 0; allowed is a number in (0, 1)"),
        ({"val_fraction": 1.0}, "val_fraction is 1.0; allowed is a number in (0, 1)"),
        ({"mean": [0.5]}, "mean is [0.5]; allowed is a list of 3 finite numbers, one per channel"),
        ({"mean": 0.5}, "mean is 0.5; allowed is a list of 3"),
        ({"mean": "abc"}, "mean is 'abc'; allowed is a list of 3"),
        ({"std": [1, 1, float("nan")]}, "std is [1, 1, nan]; allowed is a list of 3 finite numbers"),
        ({"std": [0.5, 0.5], "channels": 1}, "std is [0.5, 0.5]; allowed is a list of 1 finite numbers"),
        ({"std": [1, 0, 1]}, "std is [1.0, 0.0, 1.0]; allowed are numbers above 0"),
    ],
)
def test_bad_arguments_are_refused_before_the_folder_is_looked_at(tmp_path, given, said):
    refused(ValueError, tmp_path / "missing", said, **given)
