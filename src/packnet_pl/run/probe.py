"""The probe of a task: up to 32 test images and their logits, to compare bit for bit."""

import os

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from packnet_pl.data import ImageDataset
from packnet_pl.files import readable, replacing
from packnet_pl.text import as_line

__all__ = ["load_probe", "probe_images", "save_probe"]

PROBE_SIZE = 32


def probe_images(split: ImageDataset) -> Tensor:
    """Returns up to 32 images, evenly spaced over ``split``."""
    size = len(split)  # type: ignore[arg-type]
    indices = torch.linspace(0, size - 1, min(PROBE_SIZE, size)).round().long().tolist()
    return torch.stack([split[index][0] for index in indices])


def save_probe(path: str | os.PathLike[str], images: Tensor, logits: Tensor) -> None:
    """Writes a probe, for a later process to compare its logits with."""
    with replacing(path) as temporary:
        temporary.write_bytes(save({"pictures": images.contiguous(), "logits": logits.detach().contiguous()}))


def load_probe(path: str | os.PathLike[str]) -> tuple[Tensor, Tensor]:
    """Returns the images and logits that :func:`save_probe` wrote.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not a probe, or is damaged.
    """
    try:
        with readable(path) as name:
            tensors = load_file(name)
        return tensors["pictures"], tensors["logits"]
    except (SafetensorError, KeyError) as error:
        raise ValueError(f"{path} is not a probe, or is damaged: {as_line(error)}") from error
