"""The handwritten digits that come with scikit-learn, as the data of a task."""

import numpy as np
import torch
from torch.nn.functional import interpolate, pad

from packnet_pl.data.drawn_augmentation import AFFINE, augmented, drawn_augmentation
from packnet_pl.data.task_data import DRAWN, TaskData, image_tensors

__all__ = ["digits"]

MEAN, STD = 0.2, 0.3


def digits(*, num_train: int = 400, num_val: int = 200, augment: str = "none") -> TaskData:
    """Returns the 10 digits, 8 x 8 pixels enlarged to 20 x 20 and padded to 24 x 24.

    The 1,797 images lie in the order in which 13 people wrote them, so blocks of that order share few writers: training
    comes first, then validation, then test.

    Args:
        num_train: Images to train on.
        num_val: Images to validate on; the rest is the test split.
        augment: Of training images: "none" or "affine"; see ``packnet_pl.data.drawn_augmentation``.

    Raises:
        ValueError: If nothing is left for a split, or ``augment`` is unknown.
    """
    change = drawn_augmentation(augment, AFFINE)
    # A second to import, and only this data set needs it.
    from sklearn.datasets import load_digits

    bunch = load_digits()
    small = torch.from_numpy(bunch.images.astype(np.float32)) * (255 / 16)
    if min(num_train, num_val) < 1 or num_train + num_val >= len(small):
        raise ValueError(
            f"digits with num_train={num_train}, num_val={num_val}: each must be at least 1, "
            f"and together they must leave a test split of the {len(small)} images"
        )
    large = interpolate(small.unsqueeze(1), size=(20, 20), mode="bicubic", align_corners=False)
    images = pad(large, (2, 2, 2, 2)).squeeze(1).round().clamp(0, 255).to(torch.uint8)
    labels = torch.from_numpy(bunch.target.astype(np.int64))
    blocks = [slice(0, num_train), slice(num_train, num_train + num_val), slice(num_train + num_val, None)]
    train, val, test = (image_tensors(images[block], labels[block], MEAN, STD) for block in blocks)
    return TaskData(augmented(train, change), val, test, tuple("0123456789"), (1, 24, 24), (MEAN,), (STD,), DRAWN)
