"""Estimates how long training will take, by timing a few images: reading, forward and backward pass."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn

__all__ = ["duration", "reading_seconds", "training_seconds"]

_READING, _TRAINING = 0.2, 2.0  # seconds after which no larger number of images is timed


def reading_seconds(split: Any) -> float:
    """Returns about how many seconds it takes to read, and augment, one image of a split in one process."""
    return _seconds_per_image(lambda count: [split[index % len(split)] for index in range(count)], 64, _READING)


def training_seconds(backbone: nn.Module, input_shape: Sequence[int], batch_size: int, device: str) -> float | None:
    """Returns about how many seconds of training an image takes in a batch: forward and backward pass.

    The network's buffers and gradients have no meaning afterwards.

    Args:
        backbone: The network without its head, which costs little.
        input_shape: Of an image: channels, height, width.
        batch_size: Of one process.
        device: Where it will be trained.

    Returns:
        None if the network cannot be run so, for lack of memory for instance.
    """

    def train(count: int) -> None:
        backbone(torch.rand(count, *input_shape, device=device)).sum().backward()
        if torch.cuda.is_available():
            torch.cuda.synchronize()

    try:
        backbone.to(device).train()
        return _seconds_per_image(train, batch_size, _TRAINING)
    except RuntimeError:
        return None
    finally:
        backbone.cpu().zero_grad()


def _seconds_per_image(work: Callable[[int], Any], most: int, budget: float) -> float:
    """Returns the seconds that ``work`` takes per image, over as many as can be timed; its first call is warm-up."""
    count = min(2, most)
    work(count)
    while True:
        seconds = min(_timed(work, count) for _ in range(2))  # something else may have been going on
        if count == most or seconds > budget:
            return seconds / count
        count = min(4 * count, most)


def _timed(work: Callable[[int], Any], count: int) -> float:
    begun = time.perf_counter()
    work(count)
    return time.perf_counter() - begun


def duration(seconds: float) -> str:
    """Formats a time: "about 40 s", "about 3.5 min", "about 12 h"."""
    for unit, length in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 1.5 * length:
            number = seconds / length
            return f"about {number:.0f} {unit}" if number >= 10 else f"about {number:.2g} {unit}"
    return f"about {max(1, round(seconds))} s"
