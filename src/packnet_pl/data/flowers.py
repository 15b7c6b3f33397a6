"""Finds Oxford Flowers-102 on disk; torchvision's own data set takes only files with its checksums."""

import os

from packnet_pl.counting import counted
from packnet_pl.data.annotations import check_present, read_mat
from packnet_pl.data.image_list import ImageList
from packnet_pl.data.published import Listing, Published

__all__ = ["FLOWERS", "read_flowers"]

FLOWERS = Published(
    name="Oxford Flowers-102",
    home="https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
    layout="jpg/image_00001.jpg ..., imagelabels.mat, setid.mat",
    classes=102,
    train=2_040,
    test=6_149,
)


def read_flowers(path: str | os.PathLike[str]) -> Listing:
    """Finds the flowers; train is the union of the data set's training and validation splits, as in the paper.

    Args:
        path: The folder that has jpg/, or the one above it if it is called flowers-102, as torchvision does.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If an annotation is not what it should be; the message names the file and the image.
    """
    from torchvision.datasets import Flowers102

    names = tuple(Flowers102.classes)
    root = FLOWERS.folder(path, "flowers-102")
    ids, classes = root / "setid.mat", root / "imagelabels.mat"
    (labels,) = read_mat(FLOWERS, classes, "labels")
    splits = read_mat(FLOWERS, ids, "trnid", "valid", "tstid")
    found, seen = [], set()
    for part in ([*splits[0], *splits[1]], [*splits[2]]):
        images = ImageList([], [])
        for number in map(int, part):
            if not 1 <= number <= len(labels):
                raise ValueError(f"{ids} names image {number}, and {classes} has {counted(len(labels), 'label')}")
            label = int(labels[number - 1])
            if not 1 <= label <= len(names):
                raise ValueError(f"{classes}: label of image {number} is {label}; allowed are 1 to {len(names)}")
            if number in seen:
                raise ValueError(f"{ids} names image {number} twice; it can be in one split only")
            seen.add(number)
            images.paths.append(f"{root}/jpg/image_{number:05}.jpg")
            images.labels.append(label - 1)
        check_present(FLOWERS, images.paths, lambda index: str(ids))
        found.append(images)
    return Listing(FLOWERS, root, found[0], found[1], names)
