"""Accuracy, and the probe that shows whether an answer has changed by a single bit."""

import os
from collections.abc import Callable, Iterable
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from packnet_pl.data import ImageDataset
from packnet_pl.files import replacing

__all__ = ["accuracy", "load_probe", "probe_pictures", "same_bits", "save_probe"]

PROBE_SIZE = 32


@torch.no_grad()
def accuracy(logits: Callable[[Tensor], Tensor], loader: Iterable[Any], device: torch.device | str = "cpu") -> float:
    """Returns the share of samples, in [0, 1], whose highest logit is that of their class.

    Args:
        logits: From pictures (N x C x H x W) to logits (N x classes).
        loader: Batches of pictures and class indices.
        device: Where ``logits`` computes.
    """
    # Whole numbers: a mean of float32 would not be the exact fraction.
    right = total = 0
    for pictures, labels in loader:
        right += int((logits(pictures.to(device)).argmax(dim=1).cpu() == labels).sum())
        total += len(labels)
    return right / total


def probe_pictures(split: ImageDataset) -> Tensor:
    """Returns up to 32 pictures, evenly spaced over ``split``."""
    size = len(split)  # type: ignore[arg-type]
    places = torch.linspace(0, size - 1, min(PROBE_SIZE, size)).round().long().tolist()
    return torch.stack([split[place][0] for place in places])


def save_probe(path: str | os.PathLike[str], pictures: Tensor, logits: Tensor) -> None:
    """Writes a probe, so that a later process can ask the same question."""
    with replacing(path) as temporary:
        save_file({"pictures": pictures.contiguous(), "logits": logits.detach().contiguous()}, temporary)


def load_probe(path: str | os.PathLike[str]) -> tuple[Tensor, Tensor]:
    """Returns the pictures and logits that :func:`save_probe` wrote.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a probe, or is damaged.
    """
    try:
        tensors = load_file(path)
        return tensors["pictures"], tensors["logits"]
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{path} is not a probe, or is damaged: {error}") from error


def same_bits(first: Tensor, second: Tensor) -> bool:
    """Returns whether two float32 tensors are equal as integers: -0.0 differs from 0.0, and NaN equals itself."""
    return first.shape == second.shape and torch.equal(first.view(torch.int32), second.view(torch.int32))
