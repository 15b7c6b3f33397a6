"""What the tests of image folders share: they write real images, and read them back."""

from PIL import Image

from packnet_pl.data import image_folder

COLOUR = {"channels": 3, "mean": [0.0] * 3, "std": [1.0] * 3, "augment": "none"}
GREY = {"channels": 1, "mean": [0.0], "std": [1.0], "augment": "none"}


def uniform(path, color=(255, 0, 0), size=(12, 9), mode="RGB", **kwargs):
    """Writes an image of one colour; the ending decides the format."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, color).save(path, **kwargs)
    return path


def tree(root, train=3, test=2, val=0, classes=("cat", "dog")):
    """Writes a data set in which each image has a grey value of its own: 1, 2, 3 ..."""
    number = 0
    for split, count in (("train", train), ("val", val), ("test", test)):
        for name in classes:
            for index in range(count):
                number += 1
                uniform(root / split / name / f"{index:02}.png", (number,) * 3)
    return root


def folder(path, **kwargs):
    return image_folder(path, **{"image_size": 8, **kwargs})


def values(split):
    """The byte in the middle of each image, and its class."""
    return [(round(float(image[0, 4, 4]) * 255), int(label)) for image, label in split]
