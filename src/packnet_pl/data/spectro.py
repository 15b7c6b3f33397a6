"""Spectrograms of short sounds in noise, synthesised from seeds and cached."""

import numpy as np
import torch
from torch import Tensor

from packnet_pl.data.drawn_augmentation import SPECAUGMENT, augmented, drawn_augmentation
from packnet_pl.data.image_cache import drawn_splits
from packnet_pl.data.seeding import derive_seed
from packnet_pl.data.sounds import SIZE, SOUNDS, listen
from packnet_pl.data.task_data import DRAWN, TaskData, image_tensors

__all__ = ["spectro"]

# Raise it when the images change: old caches are then left alone.
_VERSION = 1
_SEED = 20180619
MEAN, STD = 0.25, 0.18


def spectro(
    *,
    train_per_class: int = 80,
    val_per_class: int = 20,
    test_per_class: int = 100,
    cache_dir: str | None = None,
    augment: str = "none",
) -> TaskData:
    """Returns 16 kinds of sounds as 24 x 24 grey spectrograms; each image of each split has a seed of its own.

    Args:
        train_per_class: Training images per kind.
        val_per_class: Validation images per kind.
        test_per_class: Test images per kind.
        cache_dir: Where drawn images are kept; None is ``packnet_pl`` in the user's cache folder.
        augment: Of training images: "none" or "specaugment"; see ``packnet_pl.data.drawn_augmentation``.

    Raises:
        ValueError: If a number is below 1, or ``augment`` is unknown.
    """
    change = drawn_augmentation(augment, SPECAUGMENT)
    counts = {"train": train_per_class, "val": val_per_class, "test": test_per_class}
    names = tuple(SOUNDS)
    recipe = [_VERSION, _SEED, names, counts]
    train, val, test = (
        image_tensors(images, labels, MEAN, STD)
        for images, labels in drawn_splits("spectro", recipe, counts, _draw_split, cache_dir)
    )
    return TaskData(augmented(train, change), val, test, names, (1, SIZE, SIZE), (MEAN,), (STD,), DRAWN)


def _draw_split(split: str, count: int) -> tuple[Tensor, Tensor]:
    """Draws ``count`` images of each kind; sorted by class."""
    images = [
        listen(name, np.random.default_rng(derive_seed(_SEED, split, name, index)))
        for name in SOUNDS
        for index in range(count)
    ]
    return torch.from_numpy(np.stack(images)), torch.arange(len(SOUNDS)).repeat_interleave(count)
