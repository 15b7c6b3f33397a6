"""Published data sets, read back image for image from their exact layouts on disk."""

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.datasets import Flowers102
from torchvision.transforms import v2

from packnet_pl.data import (
    published_images,
    read_cars,
    read_cubs,
    read_flowers,
    read_imagenet,
    read_places365,
    read_sketch,
    read_wikiart,
)
from packnet_pl.data.cars import CARS as ABOUT_CARS
from packnet_pl.data.class_folders import IMAGENET, PLACES365, SKETCH, WIKIART
from packnet_pl.data.cubs import CUBS
from packnet_pl.data.flowers import FLOWERS
from packnet_pl.data.image_files import ImageError, read_image
from packnet_pl.data.image_list import ImageList
from packnet_pl.data.published import Listing, Published
from packnet_pl.training import TaskDataModule
from tests.support.published import (
    BIRDS,
    CARS,
    PLAIN,
    SIZE,
    WNIDS,
    cars,
    class_folders,
    cubs,
    flowers,
    jpeg,
    numbers,
    old_cars,
    places,
    published,
)

IN_TWO = ([(1, 0), (2, 0), (3, 0), (6, 1), (7, 1), (8, 1)], [(4, 0), (5, 0), (9, 1), (10, 1)])
IN_TURNS = ([(1, 0), (2, 1), (3, 0), (4, 1), (5, 0), (6, 1)], [(7, 0), (8, 1), (9, 0), (10, 1)])
IN_FOLDERS = ([(1, 0), (2, 0), (3, 0), (4, 1), (5, 1), (6, 1)], [(7, 0), (8, 0), (9, 1), (10, 1)])
CASES = {
    "cubs": (read_cubs, cubs, IN_TWO, ("Black footed Albatross", "Laysan Albatross")),
    "cars": (read_cars, cars, IN_TURNS, tuple(CARS)),
    "cars, test labels in the devkit": (read_cars, lambda r: cars(r, withlabels="devkit"), IN_TURNS, tuple(CARS)),
    "cars, older archive": (read_cars, old_cars, IN_TURNS, tuple(CARS)),
    "flowers": (
        read_flowers,
        flowers,
        ([(1, 0), (4, 4), (7, 101), (2, 0), (5, 4), (8, 101)], [(9, 101), (6, 4), (3, 0)]),
        tuple(Flowers102.classes),
    ),
    "imagenet": (
        read_imagenet,
        lambda r: class_folders(r, WNIDS[:2]),
        IN_FOLDERS,
        ("tench, Tinca tinca", "goldfish, Carassius auratus"),
    ),
    "places365": (
        read_places365,
        places,
        (IN_FOLDERS[0], [(7, 1), (8, 0), (9, 1), (10, 0)]),
        ("airfield", "apartment building, outdoor"),
    ),
    "places365 as torchvision calls its folder": (
        read_places365,
        lambda r: places(r, "data_256_standard"),
        (IN_FOLDERS[0], [(7, 1), (8, 0), (9, 1), (10, 0)]),
        ("airfield", "apartment building, outdoor"),
    ),
    "places365 in class folders": (
        read_places365,
        lambda r: class_folders(r, ["airfield", "ice_rink-outdoor"], ending="jpg"),
        IN_FOLDERS,
        ("airfield", "ice rink, outdoor"),
    ),
    "wikiart": (read_wikiart, lambda r: class_folders(r, ["a_y", "b"], "test"), IN_FOLDERS, ("a y", "b")),
    "sketch": (
        read_sketch,
        lambda r: class_folders(r, ["bee", "cup"], "test", ending="png"),
        IN_FOLDERS,
        ("bee", "cup"),
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_every_image_has_its_label_and_split_and_nothing_of_its_surroundings(tmp_path, case):
    read, write, (train, test), names = CASES[case]
    write(tmp_path / "set")
    data = published(read, tmp_path / "set")
    assert data.class_names == names
    assert numbers(data.test) == test
    found = {"train": numbers(data.train), "val": numbers(data.val)}
    assert sorted(found["train"] + found["val"]) == sorted(train)
    # One image of each class is held out.
    assert sorted(label for _, label in found["val"]) == sorted({label for _, label in train})
    assert list(data.train.labels) == [label for _, label in found["train"]]
    whole = published(read, tmp_path / "set", val_fraction=0)
    assert numbers(whole.train) == train
    assert numbers(whole.val) == found["val"]
    assert published(read, str(tmp_path / "set"), seed=0).val.labels == data.val.labels


@pytest.mark.parametrize(
    ("read", "write", "below"),
    [
        (read_cubs, cubs, "CUB_200_2011"),
        (read_cars, cars, "stanford_cars"),
        (read_cars, old_cars, "stanford_cars"),
        (read_flowers, flowers, "flowers-102"),
    ],
)
def test_the_folder_above_the_one_that_an_archive_brings_will_do(tmp_path, monkeypatch, read, write, below):
    write(tmp_path / below)
    expected = numbers(published(read, tmp_path / below).test)
    assert numbers(published(read, tmp_path).test) == expected
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    assert numbers(published(read, f"~/{tmp_path.name}").test) == expected


def test_the_published_counts():
    counts = {of.name: (of.classes, of.train, of.test) for of in (IMAGENET, PLACES365, CUBS, ABOUT_CARS, FLOWERS)}
    assert counts == {
        "ImageNet (ILSVRC 2012)": (1000, 1_281_167, 50_000),
        "Places365-Standard": (365, 1_803_460, 36_500),
        "CUB-200-2011": (200, 5_994, 5_794),
        "Stanford Cars": (196, 8_144, 8_041),
        "Oxford Flowers-102": (102, 2_040, 6_149),
    }
    assert WIKIART.train is SKETCH.train is None


# --- boxes --------------------------------------------------------------------------------------------------------


def test_the_boxes_of_birds_are_left_top_width_and_height(tmp_path):
    found = read_cubs(cubs(tmp_path))
    assert found.train.boxes[:2] == [(11, 5, 31, 35), (12, 5, 32, 35)]
    assert found.test.boxes[0] == (14, 5, 34, 35)


@pytest.mark.parametrize("write", [cars, old_cars])
def test_the_boxes_of_cars_count_from_one_and_hold_their_last_pixel(tmp_path, write):
    found = read_cars(write(tmp_path))
    assert found.train.boxes[:2] == [(11, 5, 31, 35), (12, 5, 32, 35)]
    assert found.test.boxes[0] == (17, 5, 37, 35)


def numbered(path, width=9, height=7):
    """Each pixel has a value of its own."""
    Image.fromarray(np.arange(width * height, dtype=np.uint8).reshape(height, width)).save(path)
    return np.arange(width * height).reshape(height, width)


@pytest.mark.parametrize(
    ("box", "kept"),
    [
        ((2, 1, 5, 4), (slice(1, 4), slice(2, 5))),
        ((2.9, 1.2, 4.1, 3.5), (slice(1, 4), slice(2, 5))),
        ((-3, -1, 4, 2), (slice(0, 2), slice(0, 4))),
        ((7, 5, 100, 200), (slice(5, 7), slice(7, 9))),
        ((0, 0, 9, 7), (slice(None), slice(None))),
        ((8, 6, 9, 7), (slice(6, 7), slice(8, 9))),
    ],
)
def test_a_box_is_cut_out_to_the_pixel_and_clipped_to_the_image(tmp_path, box, kept):
    pixels = numbered(tmp_path / "a.png")
    assert (np.asarray(read_image(str(tmp_path / "a.png"), 1, box=box)) == pixels[kept]).all()


@pytest.mark.parametrize("box", [(9, 0, 20, 5), (-5, 0, 0, 5), (3, 7, 5, 9), (3, 3, 3, 5)])
def test_a_box_that_leaves_nothing_is_an_error_that_names_the_image(tmp_path, box):
    numbered(tmp_path / "a.png")
    with pytest.raises(ImageError, match=r"the box of .*a\.png \(left, top, right, bottom: .* nothing of its 9 x 7"):
        read_image(str(tmp_path / "a.png"), 1, box=box)


def test_a_box_is_counted_before_the_image_is_turned_upright(tmp_path):
    pixels = numbered(tmp_path / "a.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    with Image.open(tmp_path / "a.png") as image:
        image.save(tmp_path / "b.png", exif=exif)
    found = np.asarray(read_image(str(tmp_path / "b.png"), 1, box=(2, 1, 5, 3)))
    assert (found == np.rot90(pixels[1:3, 2:5], -1)).all()


def test_what_a_box_holds_is_resized_to_a_square_whatever_the_size_of_the_file(tmp_path):
    # Large enough that without a box it would be read at a fraction of its size.
    root = cubs(tmp_path)
    path = root / "images" / (root / "images.txt").read_text().splitlines()[3].split()[1]
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (700, 900, 3), dtype=np.uint8)).save(path, quality=95)
    rows = (root / "bounding_boxes.txt").read_text().splitlines()
    rows[3] = "4 100.0 50.0 600.0 300.0"
    (root / "bounding_boxes.txt").write_text("\n".join(rows))
    with Image.open(path) as image:
        expected = v2.functional.resize(image.crop((100, 50, 700, 350)), [16, 16], antialias=True)
    image, label = published(read_cubs, root).test[0]
    assert torch.equal((image * 255).round(), v2.functional.pil_to_tensor(expected).float())
    assert int(label) == 0


@pytest.mark.parametrize("augment", [None, "flip", "none"])
def test_training_mirrors_what_is_in_the_box(tmp_path, augment):
    data = published(read_cubs, cubs(tmp_path), augment=augment)
    mirrors = augment != "none"
    assert (data.train.random, data.val.random, data.test.random) == (mirrors, False, False)
    assert sorted(numbers(data.train) + numbers(data.val)) == IN_TWO[0]
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (48, 1))
    for path in (tmp_path / "images").rglob("*.jpg"):
        Image.fromarray(ramp).save(path, quality=95)
    torch.manual_seed(0)
    rises = {bool(image[0, 0, 0] < image[0, 0, -1]) for _ in range(5) for image, _ in data.train}
    assert rises == ({True, False} if mirrors else {True})


def test_a_policy_comes_after_mirroring_what_is_in_the_box(tmp_path):
    root, found = cubs(tmp_path), []
    for augment in ("rand", "flip+rand", "flip"):
        torch.manual_seed(0)
        found.append(torch.stack([image for image, _ in published(read_cubs, root, augment=augment).train]))
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


@pytest.mark.parametrize("given", [{"resize": 20}, {"augment": "crop"}, {"augment": "flip_crop+trivial"}])
def test_there_is_nothing_to_crop_beside_a_box(tmp_path, given):
    with pytest.raises(ValueError, match="the images of CUB-200-2011 are cut out by their boxes and resized to a sq"):
        published(read_cubs, cubs(tmp_path), **given)


# --- images without boxes ---------------------------------------------------------------------------------------


def test_without_a_box_the_shorter_side_is_256_and_224_are_cut(tmp_path):
    root = class_folders(tmp_path, WNIDS[:2])
    rng = np.random.default_rng(0)
    first = root / "val" / WNIDS[0] / f"{WNIDS[0]}_0.JPEG"
    Image.fromarray(rng.integers(0, 256, (300, 500, 3), dtype=np.uint8)).save(first)
    with Image.open(first) as image:
        expected = v2.functional.center_crop(v2.functional.resize(image, [256], antialias=True), [224])
    data = published_images(read_imagenet, root, subset=True, mean=[0.0] * 3, std=[1.0] * 3)
    assert torch.equal((data.test[0][0] * 255).round(), v2.functional.pil_to_tensor(expected).float())
    assert (data.train.random, data.val.random, data.test.random) == (True, False, False)
    usual = published_images(read_imagenet, root, subset=True)
    assert usual.input_shape == (3, 224, 224)
    assert (usual.mean, usual.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_training_crops_are_random_and_mirrored(tmp_path):
    root = class_folders(tmp_path, WNIDS[:2])
    ramp = np.tile(np.arange(256, dtype=np.uint8), (256, 1))
    for path in (root / "train" / WNIDS[0]).iterdir():
        Image.fromarray(ramp).save(path, quality=95)
    data = published(read_imagenet, root, image_size=224, augment=None)
    torch.manual_seed(0)
    rows = [data.train[0][0][0, 0] * 255 for _ in range(20)]
    assert {bool(row[0] > row[-1]) for row in rows} == {True, False}
    assert len({round(float(row.min())) for row in rows}) > 8


# --- splits -------------------------------------------------------------------------------------------------------


def made_up(train=40, classes=2):
    def images(path):
        labels = [place % classes for place in range(train)]
        files = [str(jpeg(path / f"{place:02}.jpg", place + 1)) for place in range(train)]
        last = str(jpeg(path / "test.jpg", 60))
        of = Published("Made up", "https://example.org", "*.jpg", classes, train, 1)
        return Listing(of, path, ImageList(files, labels), ImageList([last], [0]), ("x", "y"))

    return images


@pytest.mark.parametrize(("fraction", "held"), [(0.1, 2), (0.25, 5), (0.001, 1), (0.99, 19)])
def test_validation_is_a_share_of_each_class_that_follows_from_the_seed(tmp_path, fraction, held):
    data = published_images(made_up(), tmp_path, image_size=8, **PLAIN, val_fraction=fraction)
    train, val = numbers(data.train), numbers(data.val)
    assert sorted(label for _, label in val) == [0] * held + [1] * held
    assert sorted(train + val) == [(place + 1, place % 2) for place in range(40)]
    again = published_images(made_up(), tmp_path, image_size=8, **PLAIN, val_fraction=fraction)
    assert numbers(again.val) == val
    others = [
        numbers(published_images(made_up(), tmp_path, image_size=8, **PLAIN, val_fraction=0.25, seed=seed).val)
        for seed in range(4)
    ]
    assert len({tuple(found) for found in others}) == 4


def test_trained_on_everything_validation_is_a_tenth_of_it_without_augmentation(tmp_path):
    data = published_images(made_up(), tmp_path, image_size=8, val_fraction=0)
    assert (len(data.train), len(data.val), data.train.random, data.val.random) == (40, 4, True, False)
    with pytest.raises(ValueError, match=r"val_fraction is 1; allowed is a number in \[0, 1\), 0 to train on all"):
        published_images(made_up(), tmp_path, val_fraction=1)


def test_the_wrong_count_is_refused_unless_a_part_is_meant(tmp_path):
    def short(path):
        found = made_up()(path)
        return Listing(found.of, path, found.train.take(range(39)), found.test, found.class_names)

    with pytest.raises(ValueError, match=r"Made up has 40 training images, and .* has 39: complete it \(https://ex"):
        published_images(short, tmp_path)
    assert len(published_images(short, tmp_path, subset=True, val_fraction=0).train) == 39
    for name, more in (("classes", {"class_names": ("x",)}), ("test images", {"test": ImageList([], [])})):

        def wrong(path, more=more):
            found = made_up()(path)
            return Listing(**{**vars(found), **more})

        with pytest.raises(ValueError, match=rf"Made up has \d {name}, and .* has \d: complete it"):
            published_images(wrong, tmp_path)
        with pytest.raises(ValueError, match=r"has 1 class; at least two|has no test image"):
            published_images(wrong, tmp_path, subset=True)


def test_one_image_of_a_class_cannot_be_both_trained_and_validated_on(tmp_path):
    def single(path):
        found = made_up()(path)
        return Listing(found.of, path, found.train.take([0, 1, 3]), found.test, found.class_names)

    with pytest.raises(ValueError, match=r"class 'x' has one training image, .*00\.jpg; at least two are needed"):
        published_images(single, tmp_path, subset=True)
    data = published_images(single, tmp_path, subset=True, val_fraction=0, image_size=8, **PLAIN)
    assert [label for _, label in numbers(data.val)] == [0, 1]


def test_an_image_in_two_splits_is_named(tmp_path):
    def twice(path):
        found = made_up()(path)
        return Listing(found.of, path, found.train, found.train.take([3]), found.class_names)

    with pytest.raises(ValueError, match=r"03\.jpg is listed twice; an image can be in one split only"):
        published_images(twice, tmp_path)


def test_the_toys_say_what_they_are():
    assert BIRDS[0] == "001.Black_footed_Albatross"
    assert SIZE == (64, 48)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_loader_processes_change_nothing(tmp_path, num_workers):
    data = published(read_cubs, cubs(tmp_path), augment="flip", val_fraction=0)
    ramp = np.tile(np.arange(0, 256, 4, dtype=np.uint8), (48, 1))
    for path in (tmp_path / "images").rglob("*.jpg"):
        Image.fromarray(ramp).save(path, quality=95)

    def served(workers):
        module = TaskDataModule(data, key=(0, "birds", "train"), batch_size=2, num_workers=workers)
        return torch.cat([images for images, _ in module.train_dataloader()])

    expected = served(0)
    assert torch.equal(served(num_workers), expected)
    assert len({bool(image[0, 0, 0] < image[0, 0, -1]) for image in expected}) == 2
