"""What is wrong with a published data set on disk is said in one line that names file and line."""

import re
import shutil

import numpy as np
import pytest
from scipy.io import savemat

from packnet_pl.data import (
    read_cars,
    read_cubs,
    read_flowers,
    read_imagenet,
    read_places365,
    read_sketch,
    read_wikiart,
)
from packnet_pl.data.image_files import ImageError
from tests.support.published import (
    WNIDS,
    annotations,
    cars,
    change,
    class_folders,
    cubs,
    flowers,
    jpeg,
    numbers,
    old_cars,
    places,
    published,
)

HOMES = {
    read_cubs: ("images.txt, image_class_labels.txt", "https://www.vision.caltech.edu/datasets/cub_200_2011/"),
    read_cars: (
        "cars_train/*.jpg",
        "https://docs.pytorch.org/vision/stable/generated/torchvision.datasets.StanfordCars",
    ),
    read_flowers: ("jpg/image_00001.jpg", "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/"),
    read_imagenet: ("train/WNID/*.JPEG, val/WNID/*.JPEG", "https://www.image-net.org"),
    read_places365: ("data_256/", "http://places2.csail.mit.edu"),
    read_wikiart: ("train/CLASS/*, test/CLASS/*", "https://github.com/arunmallya/piggyback"),
    read_sketch: ("train/CLASS/*, test/CLASS/*", "https://github.com/arunmallya/piggyback"),
}


def refused(kind, read, path, *parts, **kwargs):
    with pytest.raises(kind) as caught:
        published(read, path, **kwargs)
    for part in parts:
        assert str(part) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", HOMES)
def test_missing_data_get_the_folder_the_layout_and_the_home_page(tmp_path, read):
    layout, home = HOMES[read]
    refused(FileNotFoundError, read, tmp_path / "x", f"there is no folder {tmp_path}/x; ", layout, f"home page: {home}")
    refused(FileNotFoundError, read, tmp_path, "there is no f", str(tmp_path), layout, home)
    for nothing in (None, ""):
        refused(ValueError, read, nothing, f"path is {nothing!r}; name the folder of ", layout)


def test_arguments_are_looked_at_before_the_data(tmp_path):
    refused(ValueError, read_cubs, tmp_path / "x", "image_size is 0", image_size=0)
    refused(ValueError, read_cubs, tmp_path / "x", "augment is 'mixup'; there are", augment="mixup")
    refused(ValueError, read_cubs, tmp_path / "x", "val_fraction is -1; allowed", val_fraction=-1)


# --- CUB-200-2011 -------------------------------------------------------------------------------------------------

FILES = ["images", "image_class_labels", "train_test_split", "bounding_boxes", "classes"]


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_of_cubs_is_named(tmp_path, name):
    (cubs(tmp_path) / f"{name}.txt").unlink()
    refused(FileNotFoundError, read_cubs, tmp_path, f"there is no file {tmp_path}/{name}.txt; CUB-200-2011 is expected")


@pytest.mark.parametrize(
    ("file", "line", "text", "said"),
    [
        ("images", 2, "two 001.Black/x.jpg", "is 'two 001.Black/x.jpg'; expected is 'NUMBER TEXT'"),
        ("images", 3, "3", "is '3'; expected is 'NUMBER TEXT'"),
        ("image_class_labels", 4, "4 3", "class 3 of image 4 is not in "),
        ("image_class_labels", 4, "4 0", "class 0 of image 4 is not in "),
        ("image_class_labels", 4, "4 one", "is '4 one'; expected is 'NUMBER NUMBER'"),
        ("train_test_split", 5, "5 2", "image 5 has 2; allowed are 1 (training) and 0 (test)"),
        ("bounding_boxes", 6, "6 60.0 27.0 325.0", "expected is 'NUMBER NUMBER NUMBER NUMBER NUMBER'"),
        ("bounding_boxes", 6, "6 60.0 27.0 0.0 304.0", "the box of image 6 (002.Laysan_Albatross/"),
        ("bounding_boxes", 6, "6 60.0 27.0 5.0 -1.0", "is 5 x -1 pixels"),
        ("bounding_boxes", 6, "6 60.0 27.0 nan 3.0", "is nan x 3 pixels"),
        ("bounding_boxes", 7, "6 1.0 1.0 2.0 2.0", "number 6 is there twice, first in "),
    ],
)
def test_a_wrong_line_of_cubs_is_named(tmp_path, file, line, text, said):
    path = cubs(tmp_path) / f"{file}.txt"
    change(path, line, text)
    refused(ValueError, read_cubs, tmp_path, f"{path}, line {line}", said)


@pytest.mark.parametrize("name", FILES[1:4])
def test_a_truncated_file_of_cubs_is_noticed(tmp_path, name):
    path = cubs(tmp_path) / f"{name}.txt"
    path.write_text("\n".join(path.read_text().splitlines()[:-1]))
    refused(ValueError, read_cubs, tmp_path, f"{tmp_path}/images.txt, line 10: image 10 is in images.txt, but {path}")
    path.write_text(path.read_text()[:-2])  # in the middle of a line
    with pytest.raises(ValueError, match=r"\.txt"):
        published(read_cubs, tmp_path)


def test_more_labels_than_birds(tmp_path):
    path = cubs(tmp_path) / "image_class_labels.txt"
    path.write_text(path.read_text() + "11 1\n")
    refused(ValueError, read_cubs, tmp_path, f"{path}, line 11: image 11 is in image_class_labels.txt, but ")


def test_an_image_that_an_annotation_names_must_be_there(tmp_path):
    path = next((cubs(tmp_path) / "images" / "001.Black_footed_Albatross").glob("*_2.jpg"))
    path.unlink()
    refused(FileNotFoundError, read_cubs, tmp_path, f"there is no image {path}, which is in ", "images.txt, line 2; ")
    shutil.rmtree(tmp_path / "images")
    refused(FileNotFoundError, read_cubs, tmp_path, "there is no image ", "images.txt, line 1; ")


def test_an_image_cut_short_is_named_when_it_is_read(tmp_path):
    path = next((cubs(tmp_path) / "images" / "001.Black_footed_Albatross").glob("*_5.jpg"))
    path.write_bytes(path.read_bytes()[:300])
    data = published(read_cubs, tmp_path)
    assert len(numbers([data.test[0]])) == 1
    with pytest.raises(ImageError, match=f"cannot be read as an image: {re.escape(str(path))}"):
        data.test[1]


def test_the_first_image_is_looked_at(tmp_path):
    path = next((cubs(tmp_path) / "images" / "001.Black_footed_Albatross").glob("*_4.jpg"))
    path.write_bytes(b"no image")
    refused(ImageError, read_cubs, tmp_path, f"cannot be read as an image: {path}")


def test_a_box_outside_its_image_is_named_when_it_is_read(tmp_path):
    change(cubs(tmp_path) / "bounding_boxes.txt", 4, "4 64.0 5.0 20.0 30.0")
    data = published(read_cubs, tmp_path)
    with pytest.raises(ImageError, match=r"the box of .*_4\.jpg \(left, top, right, bottom: 64, 5, 84, 35\)"):
        data.test[0]


# --- Stanford Cars ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["devkit/cars_meta.mat", "devkit/cars_train_annos.mat", "cars_test_annos_withlabels.mat"]
)
def test_a_missing_or_damaged_file_of_cars_is_named(tmp_path, name):
    path = cars(tmp_path) / name
    path.write_bytes(path.read_bytes()[:200])
    refused(ValueError, read_cars, tmp_path, f"{path} cannot be read as a .mat file (", "get it anew from ")
    savemat(path, {"something": [1]})
    refused(ValueError, read_cars, tmp_path, f"{path} has no variable '", "it has ['something']")
    path.unlink()
    refused(FileNotFoundError, read_cars, tmp_path, f"there is no file {path}; Stanford Cars is expected as")


def test_test_annotations_without_labels_are_noticed(tmp_path):
    cars(tmp_path, with_class=False)
    path = tmp_path / "cars_test_annos_withlabels.mat"
    refused(ValueError, read_cars, tmp_path, f"the annotations of {path} have no field 'class', they have ['bbox_x1'")


@pytest.mark.parametrize("label", [0, 3])
def test_a_class_of_cars_out_of_range_is_named(tmp_path, label):
    cars(tmp_path, labels=(1, label))
    path = tmp_path / "devkit" / "cars_train_annos.mat"
    refused(ValueError, read_cars, tmp_path, f"{path}, annotation 2 (00002.jpg): class is {label}; allowed are 1 to 2")


FIELDS = ["bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2", "class", "fname"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ([9, 1, 8, 5, 1, "00001.jpg"], "its box has no area (x1, y1, x2, y2: 9, 1, 8, 5)"),
        ([1, 6, 8, 5, 1, "00001.jpg"], "its box has no area"),
        (["a", 1, 8, 5, 1, "00001.jpg"], "box or class is no number"),
        ([1, 1, 8, 5, 1, "none.jpg"], "there is no image"),
    ],
)
def test_a_wrong_annotation_of_cars_is_named(tmp_path, row, said):
    path = cars(tmp_path) / "devkit" / "cars_train_annos.mat"
    savemat(path, {"annotations": annotations([row], FIELDS)})
    kind = FileNotFoundError if "none.jpg" in row else ValueError
    refused(kind, read_cars, tmp_path, f"{path}, annotation 1 ({row[5]})", said)


def test_a_box_of_one_pixel_is_a_box(tmp_path):
    path = cars(tmp_path) / "devkit" / "cars_train_annos.mat"
    savemat(
        path,
        {"annotations": annotations([[20, 10, 20, 10, n + 1, f"0000{k}.jpg"] for k, n in ((1, 0), (2, 1))], FIELDS)},
    )
    assert len(numbers(published(read_cars, tmp_path, val_fraction=0).train)) == 2


def test_the_older_archive_of_cars_is_checked_likewise(tmp_path):
    (old_cars(tmp_path) / "car_ims" / "000003.jpg").unlink()
    refused(FileNotFoundError, read_cars, tmp_path, "there is no image ", "annotation 3 (car_ims/000003.jpg)")


# --- Flowers ------------------------------------------------------------------------------------------------------


def test_a_missing_or_damaged_file_of_flowers_is_named(tmp_path):
    for name in ("imagelabels.mat", "setid.mat"):
        path = flowers(tmp_path / name) / name
        path.write_bytes(b"MATLAB" + bytes(50))
        refused(ValueError, read_flowers, path.parent, f"{path} cannot be read as a .mat file (")
        path.unlink()
        refused(FileNotFoundError, read_flowers, path.parent, f"there is no file {path}")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"labels": (1, 1, 1, 5, 103, 5, 9, 9, 9)}, "imagelabels.mat: label of image 5 is 103; allowed are 1 to 102"),
        ({"labels": (1, 1, 1, 5, 0, 5, 9, 9, 9)}, "imagelabels.mat: label of image 5 is 0; allowed are 1 to 102"),
        ({"train": (1, 4, 10)}, "setid.mat names image 10, and "),
        ({"train": (0, 4, 7)}, "setid.mat names image 0, and "),
        ({"test": (9, 6, 1)}, "setid.mat names image 1 twice; it can be in one split only"),
    ],
)
def test_wrong_numbers_of_flowers_are_named(tmp_path, given, said):
    flowers(tmp_path, **given)
    refused(ValueError, read_flowers, tmp_path, said)


def test_a_missing_flower_is_named(tmp_path):
    (flowers(tmp_path) / "jpg" / "image_00005.jpg").unlink()
    refused(
        FileNotFoundError, read_flowers, tmp_path, "there is no image ", "image_00005.jpg, which is in ", "setid.mat"
    )


def test_the_largest_label_of_a_byte_is_no_overflow(tmp_path):
    flowers(tmp_path)
    savemat(tmp_path / "imagelabels.mat", {"labels": np.full((1, 9), 255, np.uint8)})
    refused(ValueError, read_flowers, tmp_path, "label of image 1 is 255; allowed are 1 to 102")


# --- class folders ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_missing_split_of_imagenet_is_named(tmp_path, split):
    shutil.rmtree(class_folders(tmp_path, WNIDS) / split)
    refused(FileNotFoundError, read_imagenet, tmp_path, f"there is no folder {tmp_path}/{split}; ImageNet")


def test_an_unsorted_val_of_imagenet_is_noticed(tmp_path):
    shutil.rmtree(class_folders(tmp_path, WNIDS) / "val")
    jpeg(tmp_path / "val" / "ILSVRC2012_val_00000001.JPEG", 1)
    refused(
        ValueError, read_imagenet, tmp_path, f"class '{WNIDS[0]}' is in {tmp_path}/train, but {tmp_path}/val has no"
    )


def test_a_folder_that_is_no_class_of_imagenet_is_named(tmp_path):
    class_folders(tmp_path, [*WNIDS, "n99999999"])
    refused(ValueError, read_imagenet, tmp_path, "is called 'n99999999', which is no class of ImageNet (ILSVRC 2012)")


@pytest.mark.parametrize("name", ["categories_places365", "places365_train_standard", "places365_val"])
def test_a_missing_list_of_places_is_named(tmp_path, name):
    (places(tmp_path) / f"{name}.txt").unlink()
    refused(FileNotFoundError, read_places365, tmp_path, f"there is no file {tmp_path}/{name}.txt; Places365-Standard")


@pytest.mark.parametrize(
    ("name", "line", "text", "said"),
    [
        ("places365_train_standard", 3, "/a/airfield/00000003.jpg 2", "class is 2; allowed are 0 to 1"),
        ("places365_train_standard", 3, "/a/airfield/00000003.jpg -1", "class is -1; allowed are 0 to 1"),
        ("places365_val", 2, "Places365_val_00000002.jpg", "expected is 'TEXT NUMBER'"),
        ("categories_places365", 2, "/a/alley 2", "number of the class is 2; expected is 1"),
    ],
)
def test_a_wrong_line_of_places_is_named(tmp_path, name, line, text, said):
    path = places(tmp_path) / f"{name}.txt"
    change(path, line, text)
    refused(ValueError, read_places365, tmp_path, f"{path}, line {line}", said)


@pytest.mark.parametrize("folder", ["data_256", "val_256"])
def test_missing_images_of_places_are_noticed(tmp_path, folder):
    shutil.rmtree(places(tmp_path) / folder)
    refused(FileNotFoundError, read_places365, tmp_path, f"there is no folder {tmp_path}/{folder}; Places365-Standard")


def test_classes_of_sketch_that_differ_between_the_splits_are_named(tmp_path):
    shutil.rmtree(class_folders(tmp_path, ["bee", "cup"], "test") / "test" / "cup")
    refused(ValueError, read_sketch, tmp_path, f"class 'cup' is in {tmp_path}/train, but {tmp_path}/test has no such")
