"""Copies of data sets as they are found: other layouts, clutter, names that meet. Read, or named as what they are."""

import codecs
import unicodedata

import pytest
from PIL import Image
from scipy.io import savemat

from packnet_pl.data import read_cars, read_cubs, read_imagenet, read_places365, read_sketch
from packnet_pl.data.image_files import ImageError
from tests.support.image_folders import folder, tree, uniform
from tests.support.published import (
    CARS,
    EDGES,
    WNIDS,
    annotations,
    cars,
    change,
    class_folders,
    cubs,
    names_of_cars,
    numbers,
    old_cars,
    places,
    published,
)


def refused(read, path, *parts, kind=(ValueError, FileNotFoundError), **kwargs):
    with pytest.raises(kind) as caught:
        read(path, **kwargs)
    for part in parts:
        assert str(part) in str(caught.value)
    assert "\n" not in str(caught.value)


# --- class names --------------------------------------------------------------------------------------------------


def test_classes_of_imagenet_with_the_same_words_have_their_ids_too(tmp_path):
    read = read_imagenet(class_folders(tmp_path, ["n02012849", "n03126707", "n03710637", "n03710721"]))
    assert read.class_names == ("crane (n02012849)", "crane (n03126707)", "maillot", "maillot, tank suit")


def test_folders_whose_names_meet_when_they_are_made_readable_keep_their_own(tmp_path):
    names = ("x y (x y)", "x y (x_y)", "z z")
    assert read_sketch(class_folders(tmp_path / "s", ["x y", "x_y", "z_z"], "test")).class_names == names
    birds = cubs(tmp_path / "b")
    change(birds / "classes.txt", 2, "2 002.Black_footed_Albatross")
    twice = (
        "Black footed Albatross (001.Black_footed_Albatross)",
        "Black footed Albatross (002.Black_footed_Albatross)",
    )
    assert read_cubs(birds).class_names == twice
    models = names_of_cars()
    models[0, 1] = CARS[0]
    savemat(cars(tmp_path / "c") / "devkit" / "cars_meta.mat", {"class_names": models})
    assert read_cars(tmp_path / "c").class_names == (f"{CARS[0]} (class 1)", f"{CARS[0]} (class 2)")


def test_a_class_is_called_the_same_in_both_layouts_of_places(tmp_path):
    by_folders = read_places365(class_folders(tmp_path / "f", ["airfield", "apartment_building-outdoor"], ending="jpg"))
    assert by_folders.class_names == read_places365(places(tmp_path / "l")).class_names


# --- Places365 by lists -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "line"), [("train_standard", 5), ("val", 3)])
def test_any_missing_image_of_places_is_named_with_its_line(tmp_path, name, line):
    path = places(tmp_path) / f"places365_{name}.txt"
    file = path.read_text().splitlines()[line - 1].split()[0].lstrip("/")
    gone = tmp_path / ("val_256" if name == "val" else "data_256") / file
    gone.unlink()
    refused(read_places365, tmp_path, f"there is no image {gone}, which is in {path}, line {line}; Places365")


@pytest.mark.parametrize("left", ["train", "train/airfield", "data_256", "val_256"])
def test_empty_folders_do_not_hide_the_lists_of_places(tmp_path, left):
    places(tmp_path, "data_large", "val_large")
    (tmp_path / left).mkdir(parents=True)
    assert read_places365(tmp_path).class_names[0] == "airfield"


# --- Stanford Cars ------------------------------------------------------------------------------------------------


def one_deeper(root):
    """The layout of Kaggle's copies: cars_train/cars_train, cars_test/cars_test, car_devkit/devkit."""
    for name, new in (("cars_train", "cars_train"), ("cars_test", "cars_test"), ("devkit", "car_devkit")):
        (root / name).rename(root / "moved")
        (root / new).mkdir()
        (root / "moved").rename(root / new / name)
    return root


def test_cars_one_folder_deeper_are_read(tmp_path):
    expected = published(read_cars, cars(tmp_path / "a"), val_fraction=0)
    found = published(read_cars, one_deeper(cars(tmp_path / "b")), val_fraction=0)
    assert numbers(found.train) == numbers(expected.train)
    assert numbers(found.test) == numbers(expected.test)
    # Unpacked into a folder of its own, beside an empty one.
    cars(tmp_path / "c" / "stanford_cars" / "stanford_cars")
    (tmp_path / "d" / "stanford_cars").mkdir(parents=True)
    cars(tmp_path / "d" / "x").rename(tmp_path / "d" / "cars")
    for path in (tmp_path / "c", tmp_path / "d" / "cars"):
        assert numbers(published(read_cars, path, val_fraction=0).test) == numbers(expected.test)
    (tmp_path / "d" / "cars" / "stanford_cars").mkdir()
    assert numbers(published(read_cars, tmp_path / "d" / "cars", val_fraction=0).test) == numbers(expected.test)


def test_test_annotations_of_cars_without_labels_are_named_as_that(tmp_path):
    cars(tmp_path)
    (tmp_path / "cars_test_annos_withlabels.mat").unlink()
    rows = [[1, 1, 2, 2, "00001.jpg"]]
    path = tmp_path / "devkit" / "cars_test_annos.mat"
    savemat(path, {"annotations": annotations(rows, [*EDGES, "fname"])})
    said = f"{tmp_path}/cars_test_annos_withlabels.mat: {path} has the boxes of the test images, but not their classes"
    refused(read_cars, tmp_path, said)
    path.rename(tmp_path / "cars_test_annos_withlabels.mat")
    refused(
        read_cars, tmp_path, "have no field 'class'", "it is the file without labels: cars_test_annos_withlabels.mat"
    )


def test_layouts_of_cars_that_cannot_be_read_are_named_as_what_they_are(tmp_path):
    old_cars(tmp_path / "a")
    (tmp_path / "a" / "car_ims").rename(tmp_path / "a" / "cars_train")
    refused(
        read_cars, tmp_path / "a", "there is no folder ", "car_ims, to which ", "the numbers of the images in cars_t"
    )
    class_folders(tmp_path / "b" / "car_data" / "car_data", CARS, "test", ending="jpg")
    refused(read_cars, tmp_path / "b", "holds the cars in class folders, without their boxes", "sequence=folders")


# --- class folders ------------------------------------------------------------------------------------------------


def test_images_that_were_not_sorted_into_classes_are_counted(tmp_path):
    root = class_folders(tmp_path / "ILSVRC" / "Data" / "CLS-LOC", WNIDS)
    assert len(read_imagenet(tmp_path).train.paths) == 9
    for path in [path for path in (root / "val").iterdir() if path.is_dir()]:
        for file in path.iterdir():
            file.rename(root / "val" / file.name)
        path.rmdir()
    refused(read_imagenet, tmp_path, f"{root}/val has no such folder; it has none, but images (6): sort them into val/")
    (tree(tmp_path / "own") / "val").mkdir()
    refused(
        folder, tmp_path / "own", f"{tmp_path}/own/val has no such folder; it has none: fill it, or delete it: valid"
    )


def test_too_many_images_are_not_to_be_completed(tmp_path):
    cubs(tmp_path, train=3, test=2)
    said = "CUB-200-2011 has 200 classes, and "
    refused(lambda path: published(read_cubs, path, subset=False), tmp_path, said, "has 2: complete it")
    names = [f"{number} {number:03}.Bird_{number}" for number in range(1, 203)]
    (tmp_path / "classes.txt").write_text("\n".join(names))
    said = "has 200 classes, and "
    refused(lambda path: published(read_cubs, path, subset=False), tmp_path, said, "has 202, 2 too many: take out what")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_byte_order_mark_is_no_damage(tmp_path, encoding):
    for path in places(tmp_path).glob("*.txt"):
        path.write_text(path.read_text(), encoding=encoding)
    assert (tmp_path / "places365_val.txt").read_bytes()[:2] in (codecs.BOM_UTF8[:2], codecs.BOM_UTF16)
    assert read_places365(tmp_path).class_names == ("airfield", "apartment building, outdoor")


COMPOSED, DECOMPOSED = (unicodedata.normalize(form, "café") for form in ("NFC", "NFD"))


def test_a_class_written_in_two_ways_is_one_class(tmp_path):
    tree(tmp_path, classes=("caff", COMPOSED, "dog"))
    labels = [int(label) for _, label in folder(tmp_path).test]
    (tmp_path / "test" / COMPOSED).rename(tmp_path / "test" / DECOMPOSED)
    found = folder(tmp_path)
    assert found.class_names == ("caff", COMPOSED, "dog")
    # Sorted by itself the other spelling stands in another place.
    assert [int(label) for _, label in found.test] == labels
    for index in range(2):
        uniform(tmp_path / "test" / COMPOSED / f"{index}.png")
    refused(
        folder, tmp_path, r"the class folders 'cafe\u0301' and 'caf\xe9' of ", "written in two ways; put their images"
    )


def test_clutter_is_passed_over_and_what_else_is_left_out_is_counted_in_one_line(tmp_path, caplog):
    tree(tmp_path)
    uniform(tmp_path / "train" / "__MACOSX" / "cat" / "0.png")
    uniform(tmp_path / "train" / "cat" / "@eaDir" / "0.png")
    (tmp_path / "train" / "cat" / "._00.png").write_bytes(b"")
    (tmp_path / "train" / "cat" / "Thumbs.db").write_bytes(b"")
    assert folder(tmp_path).class_names == ("cat", "dog")
    assert caplog.text == ""
    uniform(tmp_path / "train" / "cat" / "more" / "0.png")
    uniform(tmp_path / "test" / "dog" / "more" / "still" / "0.png")
    uniform(tmp_path / "test" / "loose.png")
    for name in ("a.heic", "b.HEIC", "c.txt", "d"):
        (tmp_path / "test" / "cat" / name).write_bytes(b"")
    folder(tmp_path)
    (line,) = caplog.messages
    assert line == (
        f"left out in {tmp_path}, as no image directly in a class folder: images in folders inside class folders "
        "(2), .heic (2), .txt (1), without an ending (1), images beside the class folders (1)"
    )


@pytest.mark.parametrize("split", ["train", "test"])
def test_an_image_above_pillows_limit_is_found_before_training(tmp_path, monkeypatch, split):
    large = uniform(tree(tmp_path / "own") / split / "cat" / "zzz.png", size=(20, 20))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 150)
    refused(
        folder, tmp_path / "own", f"{large} has more pixels than Pillow reads (", "make it smaller", kind=ImageError
    )
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 64 * 48)
    class_folders(tmp_path / "sketch", ["bee", "cup"], "test")
    large = uniform(tmp_path / "sketch" / split / "cup" / "zzz.png", size=(100, 100))
    refused(lambda path: published(read_sketch, path), tmp_path / "sketch", f"{large} has more pixels", kind=ImageError)
