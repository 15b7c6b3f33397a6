"""Writes tiny data sets in the exact layouts of the published ones, and says which colour is where.

Each image is a JPEG of one colour, whose red is its number; what must be cut away is blue.
"""

import numpy as np
from PIL import Image
from scipy.io import savemat

from packnet_pl.data import published_images

PLAIN = {"mean": [0.0] * 3, "std": [1.0] * 3, "augment": "none"}
SIZE = (64, 48)


def jpeg(path, number, *, size=SIZE, box=None, **kwargs):
    """Red is 4 x ``number``, green 200; with a box (left, top, right, bottom) all around it is blue."""
    path.parent.mkdir(parents=True, exist_ok=True)
    colour = (4 * number, 200, 0)
    image = Image.new("RGB", size, colour if box is None else (0, 0, 255))
    if box is not None:
        image.paste(colour, tuple(map(int, box)))
    image.save(path, quality=95, subsampling=0, **kwargs)
    return path


def numbers(split):
    """(number, label) of each image; fails where there is blue or too little green."""
    found = []
    for image, label in split:
        red, green, _ = (image.mean((1, 2)) * 255).tolist()
        assert green > 190, "something was cut that should be there, or the other way round"
        assert float(image[2].max()) * 255 < 12, "there is something of the surroundings"
        found.append((round(red / 4), int(label)))
    return found


def published(read, path, **kwargs):
    return published_images(read, path, **{"subset": True, "image_size": 16, **PLAIN, **kwargs})


# --- CUB-200-2011 -------------------------------------------------------------------------------------------------

BIRDS = ["001.Black_footed_Albatross", "002.Laysan_Albatross"]


def cubs(root, train=3, test=2):
    """Two birds; the literal lines of the data set. Images count from 1 in the order of images.txt."""
    lines = {name: [] for name in ("images", "image_class_labels", "train_test_split", "bounding_boxes")}
    number = 0
    for label, bird in enumerate(BIRDS, start=1):
        for index in range(train + test):
            number += 1
            name = f"{bird}/{bird[4:]}_{index:04}_{number}.jpg"
            left, top, width, height = 10 + number, 5, 20, 30
            jpeg(root / "images" / name, number, box=(left, top, left + width, top + height))
            lines["images"].append(f"{number} {name}")
            lines["image_class_labels"].append(f"{number} {label}")
            lines["train_test_split"].append(f"{number} {int(index < train)}")
            lines["bounding_boxes"].append(f"{number} {left:.1f} {top:.1f} {width:.1f} {height:.1f}")
    lines["classes"] = [f"{label} {bird}" for label, bird in enumerate(BIRDS, start=1)]
    for name, rows in lines.items():
        (root / f"{name}.txt").write_text("\n".join(rows) + "\n")
    return root


def change(path, line, text):
    """Puts ``text`` in the place of a line, counted from 1."""
    rows = path.read_text().splitlines()
    rows[line - 1] = text
    path.write_text("\n".join(rows) + "\n")


# --- Stanford Cars ------------------------------------------------------------------------------------------------

CARS = ["AM General Hummer SUV 2000", "Acura RL Sedan 2012"]


def annotations(rows, fields):
    """A 1 x n struct array, as MATLAB has it."""
    found = np.empty((1, len(rows)), dtype=[(field, object) for field in fields])
    for place, row in enumerate(rows):
        found[0, place] = tuple(row)
    return found


def names_of_cars():
    found = np.empty((1, len(CARS)), dtype=object)
    found[0, :] = CARS
    return found


EDGES = ("bbox_x1", "bbox_y1", "bbox_x2", "bbox_y2")


def cars(root, train=3, test=2, labels=(1, 2), withlabels="", with_class=True):
    """torchvision's layout. Edges count from 1, and the last pixel belongs to the box."""
    number = 0
    (root / "devkit").mkdir(parents=True)
    savemat(root / "devkit" / "cars_meta.mat", {"class_names": names_of_cars()})
    for split, count, file in (
        ("cars_train", train, root / "devkit" / "cars_train_annos.mat"),
        ("cars_test", test, root / withlabels / "cars_test_annos_withlabels.mat"),
    ):
        rows = []
        for index in range(count * 2):
            number += 1
            name = f"{index + 1:05}.jpg"
            jpeg(root / split / name, number, box=(10 + number, 5, 30 + number, 35))
            rows.append([11 + number, 6, 30 + number, 35, labels[index % 2], name])
        fields = [*EDGES, "class", "fname"]
        if split == "cars_test" and not with_class:
            rows, fields = [[*row[:4], row[5]] for row in rows], [*EDGES, "fname"]
        savemat(file, {"annotations": annotations(rows, fields)})
    return root


def old_cars(root, train=3, test=2):
    """The older single archive."""
    rows = []
    for index in range(2 * (train + test)):
        name = f"car_ims/{index + 1:06}.jpg"
        jpeg(root / name, index + 1, box=(11 + index, 5, 31 + index, 35))
        rows.append([name, 12 + index, 6, 31 + index, 35, index % 2 + 1, int(index >= 2 * train)])
    fields = ["relative_im_path", *EDGES, "class", "test"]
    savemat(root / "cars_annos.mat", {"annotations": annotations(rows, fields), "class_names": names_of_cars()})
    return root


# --- Flowers, ImageNet, Places ------------------------------------------------------------------------------------


def flowers(root, labels=(1, 1, 1, 5, 5, 5, 102, 102, 102), train=(1, 4, 7), valid=(2, 5, 8), test=(9, 6, 3)):
    for number in range(1, len(labels) + 1):
        jpeg(root / "jpg" / f"image_{number:05}.jpg", number)
    savemat(root / "imagelabels.mat", {"labels": np.array([labels], dtype=np.uint8)})
    savemat(root / "setid.mat", {"trnid": np.array([train]), "valid": np.array([valid]), "tstid": np.array([test])})
    return root


WNIDS = ["n01440764", "n01443537", "n01484850"]


def class_folders(root, classes, test="val", train_count=3, test_count=2, ending="JPEG"):
    number = 0
    for split, count in (("train", train_count), (test, test_count)):
        for name in classes:
            for index in range(count):
                number += 1
                jpeg(root / split / name / f"{name.replace('/', '_')}_{index}.{ending}", number)
    return root


def places(root, train_folder="data_256", val_folder="val_256"):
    """The archive of small images with its file lists."""
    root.mkdir(parents=True, exist_ok=True)
    categories = ["/a/airfield", "/a/apartment_building/outdoor"]
    train, val, number = [], [], 0
    for label, category in enumerate(categories):
        for index in range(1, 4):
            number += 1
            jpeg(root / train_folder / f"{category[1:]}/{index:08}.jpg", number)
            train.append(f"{category}/{index:08}.jpg {label}")
    for index in range(1, 5):
        number += 1
        jpeg(root / val_folder / f"Places365_val_{index:08}.jpg", number)
        val.append(f"Places365_val_{index:08}.jpg {index % 2}")
    (root / "categories_places365.txt").write_text("\n".join(f"{c} {n}" for n, c in enumerate(categories)) + "\n")
    (root / "places365_train_standard.txt").write_text("\n".join(train) + "\n")
    (root / "places365_val.txt").write_text("\n".join(val) + "\n")
    return root


def all_of_them(root):
    """A folder for ``sequence.root``."""
    class_folders(root / "imagenet", WNIDS)
    places(root / "places365")
    cubs(root / "cubs" / "CUB_200_2011")
    cars(root / "cars" / "stanford_cars")
    flowers(root / "flowers")
    class_folders(root / "wikiart", ["a_y", "b"], "test", ending="jpg")
    class_folders(root / "sketch", ["bee", "cup"], "test", ending="png")
    return root
