"""Augmentation of the embedded tasks: affine maps of letters and digits, masks and shifts in time of spectrograms."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.data import TensorDataset

__all__ = ["AFFINE", "SPECAUGMENT", "AugmentedTensors", "augmented", "drawn_augmentation"]

AFFINE, SPECAUGMENT = "affine", "specaugment"

_EDGE = 8
"""Pixels by which an image of 24 is enlarged before it is moved: no map below reaches further."""
_SHIFT = 2
"""Columns by which a spectrogram moves at most."""
_WIDEST = 3
"""Rows (F) and columns (T) that are masked at most: of 24, where SpecAugment's F is 27 of 80."""

Change = Callable[[Tensor], Tensor]


class AugmentedTensors(TensorDataset):
    """Images and labels, and each image is another one whenever it is read; torch's generator says which.

    Args:
        tensors: Normalised images (float, N x 1 x H x W) and labels.
        change: From an image to one of the same shape, in new memory.

    Attributes:
        unaugmented: ``tensors``.
    """

    random = True

    def __init__(self, tensors: TensorDataset, change: Change) -> None:
        super().__init__(*tensors.tensors)
        self.unaugmented, self._change = tensors, change

    def __getitem__(self, index: int) -> tuple[Tensor, ...]:
        image, label = self.unaugmented[index]
        return self._change(image), label


def drawn_augmentation(augment: str, kind: str) -> Change | None:
    """Returns the random change of an image that ``augment`` asks for; None if it asks for none.

    Args:
        augment: "none" or ``kind``.
        kind: What fits the images. :data:`AFFINE` turns, shifts, scales and shears them; what comes in from outside
            repeats the edge. :data:`SPECAUGMENT` moves a spectrogram in time and masks a band of frequencies and one
            of moments with the mean (Park et al., "SpecAugment", 2019, section 2; without its warping of time).

    Raises:
        ValueError: If ``augment`` is neither.
    """
    if augment not in ("none", kind):
        raise ValueError(f"augment is {augment!r}; there are {['none', kind]}")
    if augment == "none":
        return None
    return _affine() if kind == AFFINE else _specaugment()


def augmented(split: TensorDataset, change: Change | None) -> TensorDataset:
    """Returns a training split of normalised images whose items are changed when they are read; as it is for None."""
    return split if change is None else AugmentedTensors(split, change)


def _affine() -> Change:
    # Seconds to import, and only what is augmented needs it.
    from torchvision.transforms import InterpolationMode, v2

    # The shift is a share of the enlarged image: 1.2 pixels.
    transform = v2.RandomAffine(
        degrees=10,
        translate=(0.03, 0.03),
        scale=(0.88, 1.12),
        shear=(-8, 8, -8, 8),
        interpolation=InterpolationMode.BILINEAR,
        fill=None,
    )
    return partial(_moved, transform=transform)


def _moved(image: Tensor, *, transform: Callable[[Tensor], Any]) -> Tensor:
    moved: Tensor = transform(pad(image, (_EDGE,) * 4, mode="replicate"))
    return moved[..., _EDGE:-_EDGE, _EDGE:-_EDGE].contiguous()


def _specaugment() -> Change:
    from torchvision.transforms import v2

    size = 24
    return partial(_masked, shift=v2.RandomCrop(size, padding=(_SHIFT, 0), padding_mode="reflect"))


def _masked(image: Tensor, *, shift: Callable[[Tensor], Any]) -> Tensor:
    masked: Tensor = shift(image).clone()
    height, width = masked.shape[-2:]
    masked[..., _band(height), :] = 0  # the mean, as images are normalised
    masked[..., _band(width)] = 0
    return masked


def _band(size: int) -> slice:
    length = int(torch.randint(_WIDEST + 1, ()))
    start = int(torch.randint(size - length + 1, ()))
    return slice(start, start + length)
