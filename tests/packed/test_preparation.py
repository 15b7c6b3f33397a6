"""A packed file says in full how images become pixels, and predictions see the very pixels of the test split."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from packnet_pl import TaskClassifier, load_packed, save_packed
from packnet_pl.data import (
    digits,
    glyphs,
    image_folder,
    published_images,
    read_cars,
    read_cubs,
    read_flowers,
    read_imagenet,
    spectro,
)
from packnet_pl.data.image_files import read_image
from packnet_pl.models import Preparation, TaskInfo, vgg_small
from packnet_pl.packed.predict import image_reader, predict_images
from tests.support.published import WNIDS, cars, class_folders, cubs, flowers

SQUASHED = Preparation("RGB", (16, 16), boxes=True)
CUT = Preparation("RGB", (16, 16), shorter_side=18)
GREY = Preparation("L", (24, 24), shorter_side=24)
BICUBIC = Preparation("RGB", (16, 16), shorter_side=17, interpolation="bicubic")
CUT_OF_SQUASHED = Preparation("RGB", (16, 16), shorter_side=20, interpolation="bicubic", squash=True)


def noisy(folder):
    """Fills every JPEG below with noise, large enough that without a box it is read at a fraction of its size."""
    rng = np.random.default_rng(0)
    for path in sorted(folder.rglob("*.jp*g")) + sorted(folder.rglob("*.JPEG")):
        with Image.open(path) as image:
            exif = image.getexif()
        exif[0x0112] = 6
        Image.fromarray(rng.integers(0, 256, (150, 220, 3), np.uint8)).save(path, quality=95, exif=exif)


def folders(root):
    """Transparent images, grey ones of 16 bits, and ones in colour."""
    rng = np.random.default_rng(1)
    for split in ("train", "test"):
        for label in ("a", "b"):
            folder = root / split / label
            folder.mkdir(parents=True)
            for number in range(2):
                Image.fromarray(rng.integers(0, 256, (30, 41, 4), np.uint8)).save(folder / f"{number}.png")
            Image.fromarray(rng.integers(0, 65536, (33, 20), np.uint16)).save(folder / "deep.png")
            Image.fromarray(rng.integers(0, 256, (200, 140, 3), np.uint8)).save(folder / "large.jpg")


def published(read, root):
    return published_images(read, root, subset=True, image_size=16)


def packed(path, tasks, **network):
    """Returns the network that comes back from a file with these tasks."""
    torch.manual_seed(0)
    model = TaskClassifier(vgg_small(stages=((4,), (6,)), hidden=8, **network))
    for name, data in tasks.items():
        model.add_task(
            name,
            num_classes=len(data.class_names),
            class_names=data.class_names,
            input_shape=data.input_shape,
            mean=data.mean,
            std=data.std,
            preparation=data.preparation,
        )
        model.packnet.begin_task(name, private=model.private_modules(name))
        model.packnet.prune(0.5)
        model.packnet.finish_task()
    save_packed(model, path)
    return load_packed(path)


@pytest.fixture(scope="module")
def colour(tmp_path_factory):
    root = tmp_path_factory.mktemp("colour")
    cars(root / "cars")
    cubs(root / "cubs")
    flowers(root / "flowers")
    class_folders(root / "imagenet", WNIDS)
    noisy(root)
    folders(root / "folders")
    tasks = {
        "cars": published(read_cars, root / "cars"),
        "cubs": published(read_cubs, root / "cubs"),
        "flowers": published(read_flowers, root / "flowers"),
        "imagenet": published(read_imagenet, root / "imagenet"),
        "folders": image_folder(root / "folders", image_size=16),
        "bicubic": image_folder(root / "folders", image_size=16, resize=17, interpolation="bicubic"),
        "cut of squashed": image_folder(
            root / "folders", image_size=16, resize=0.8, squash=True, interpolation="bicubic"
        ),
    }
    return tasks, packed(root / "packed.safetensors", tasks, in_channels=3, image_size=16)


@pytest.fixture(scope="module")
def grey(tmp_path_factory):
    root = tmp_path_factory.mktemp("grey")
    few = {"train_per_class": 1, "val_per_class": 1, "test_per_class": 1, "cache_dir": str(root)}
    tasks = {
        "digits": digits(),
        "letters": glyphs("greek", **few),
        "inverted": glyphs("greek", inverted=True, **few),
        "sounds": spectro(**few),
    }
    return tasks, packed(root / "packed.safetensors", tasks)


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("cars", SQUASHED),
        ("cubs", SQUASHED),
        ("flowers", CUT),
        ("imagenet", CUT),
        ("folders", CUT),
        ("bicubic", BICUBIC),
        ("cut of squashed", CUT_OF_SQUASHED),
    ],
)
def test_predictions_see_the_pixels_of_the_test_split(colour, task, expected):
    tasks, network = colour
    split, info = tasks[task].test, network.info(task)
    assert info.preparation == expected
    for index, path in enumerate(split.paths):
        box = None if split.boxes is None else split.boxes[index]
        assert torch.equal(image_reader(info, box=box)(path), split[index][0])
    # The network by itself is asked with the same.
    found = network.standalone(task)(image_reader(info, box=box)(path).unsqueeze(0))
    assert torch.equal(found, network(split[index][0].unsqueeze(0), task=task))


@pytest.mark.parametrize("task", ["cars", "cubs"])
def test_an_image_that_is_cut_out_already_is_squashed_and_not_cut_again(colour, tmp_path, task):
    tasks, network = colour
    split = tasks[task].test
    for index, (path, box) in enumerate(zip(split.paths, split.boxes, strict=True)):
        read_image(path, 3, box=box).save(tmp_path / "cut.png")
        assert torch.equal(image_reader(network.info(task))(str(tmp_path / "cut.png")), split[index][0])
    answers = list(predict_images(network, [path], [task], top=2, batch_size=1, box=box))
    logits = network(split[index][0].unsqueeze(0), task=task)[0].double()
    assert answers[0].classes[0][1] == float(logits.softmax(0).max())


@pytest.mark.parametrize("task", ["digits", "letters", "inverted", "sounds"])
def test_an_image_of_an_embedded_task_that_was_saved_is_what_it_was(grey, tmp_path, task):
    tasks, network = grey
    data, info = tasks[task], network.info(task)
    assert info.preparation == GREY
    for index in range(0, len(data.test), 7):
        image = data.test[index][0]
        pixels = ((image * data.std[0] + data.mean[0]) * 255).round().to(torch.uint8)
        Image.fromarray(pixels[0].numpy()).save(tmp_path / "one.png")
        assert torch.equal(image_reader(info)(str(tmp_path / "one.png")), image)


def test_what_is_done_is_spelled_out_for_readers_elsewhere():
    assert json.loads(json.dumps(CUT.dump())) == {
        "jpeg_at_least": 36,
        "boxes": False,
        "upright": True,
        "background": "white",
        "colour": "RGB",
        "resize": "shorter_side",
        "shorter_side": 18,
        "interpolation": "bilinear",
        "antialias": True,
        "size": [16, 16],
    }
    assert (SQUASHED.dump()["resize"], SQUASHED.dump()["jpeg_at_least"], SQUASHED.dump()["boxes"]) == (
        "squash",
        None,
        True,
    )
    assert (BICUBIC.dump()["interpolation"], CUT_OF_SQUASHED.dump()["resize"]) == ("bicubic", "squash")
    assert (CUT_OF_SQUASHED.dump()["shorter_side"], CUT_OF_SQUASHED.dump()["jpeg_at_least"]) == (20, None)
    for one in (CUT, SQUASHED, GREY, BICUBIC, CUT_OF_SQUASHED):
        assert Preparation.parse(json.loads(json.dumps(one.dump()))) == one


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"interpolation": "lanczos"}, r"interpolation is 'lanczos'; allowed are \['bilinear', 'bicubic'\]"),
        ({"interpolation": ["bicubic"]}, r"interpolation is \['bicubic'\]; allowed are"),
        ({"resize": "squash"}, "jpeg_at_least=36; this version does None"),
        ({"resize": "longer_side"}, "resize='longer_side'; this version does 'shorter_side'"),
        ({"background": "black"}, "background='black'; this version does 'white'"),
        ({"gamma": 2.2}, "gamma=2.2; this version does None"),
        ({"colour": "CMYK"}, "colour is 'CMYK'; allowed are"),
        ({"shorter_side": 15, "jpeg_at_least": 30}, "the shorter side is 15, and 16 x 16 pixels are to be cut out"),
        ({"size": [16]}, r"size is \(16,\); allowed are height and width"),
        ({"boxes": 1}, "boxes is 1; allowed are true and false"),
        ({"size": 16}, "not the preparation of an image: TypeError"),
    ],
)
def test_what_this_version_does_not_do_is_refused(change, reason):
    with pytest.raises(ValueError, match=reason):
        Preparation.parse({**CUT.dump(), **change})


def test_the_preparation_and_the_shape_belong_together():
    with pytest.raises(ValueError, match=r"input_shape is \(1, 24, 24\), and the preparation of images gives \(3, 16"):
        TaskInfo(2, input_shape=(1, 24, 24), preparation=CUT)


def test_what_earlier_versions_said_means_what_it_meant():
    old = {"num_classes": 2, "class_names": [], "input_shape": [1, 24, 24], "mean": [0.5], "std": [0.25]}
    assert TaskInfo.parse({**old, "resize": 24}).preparation == GREY
    assert TaskInfo.parse({**old, "resize": None}).preparation is None
    assert TaskInfo.parse(old).preparation is None


def test_without_a_preparation_the_middle_is_cut_out(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 70, 3), np.uint8)).save(tmp_path / "a.png")
    info = {"num_classes": 2, "input_shape": (3, 16, 16), "mean": (0.5,) * 3, "std": (0.25,) * 3}
    unknown, known = TaskInfo(**info), TaskInfo(**info, preparation=CUT)
    path = str(tmp_path / "a.png")
    assert torch.equal(image_reader(unknown)(path), image_reader(known)(path))
