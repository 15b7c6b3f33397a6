"""Estimates how long training will take, by timing a few images: reading them, training on them, evaluating them."""

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

__all__ = ["BatchSeconds", "Machine", "batch_seconds", "duration", "reading_seconds"]

_READING, _BATCH = 0.2, 1.0  # seconds after which no larger number of images is timed


@dataclass(frozen=True)
class BatchSeconds:
    """Seconds that an image takes in a batch of one process.

    Attributes:
        training: Forward and backward pass, loss, and its share of the optimizer's step.
        evaluation: Forward pass.
    """

    training: float
    evaluation: float


@dataclass(frozen=True)
class Machine:
    """What the work is divided among.

    Attributes:
        device: Where it is trained, such as "cpu" or "cuda:0".
        processes: That train together.
        nodes: Machines that they are on.
        workers: That read images, of each process.
    """

    device: str
    processes: int = 1
    nodes: int = 1
    workers: int = 0

    def per_image(self, computing: float, reading: float) -> float:
        """Returns the seconds from one image to the next, all processes together.

        Args:
            computing: Seconds of one process.
            reading: Seconds of one process or worker.
        """
        cores, readers = _cores() * self.nodes, self.processes * max(1, self.workers)
        reading_alone = reading / min(cores, readers)
        if not self.device.startswith("cpu"):
            alone = computing / self.processes
            return max(alone, reading_alone) if self.workers else alone + reading_alone
        threads = torch.get_num_threads()
        busy = min(cores, self.processes * threads)  # cores that compute at once
        alone = computing * threads / busy
        if not self.workers:
            return alone + reading_alone
        # Workers take cores away from those that compute.
        return max(alone, reading_alone, (alone * busy + reading) / cores)


def reading_seconds(split: Any) -> float:
    """Returns about how many seconds it takes to read, and augment, one image of a split in one process."""
    return _seconds_per_image(lambda count: [split[index % len(split)] for index in range(count)], 64, _READING)


def batch_seconds(
    backbone: nn.Module,
    num_features: int,
    num_classes: int,
    make_optimizer: Callable[..., torch.optim.Optimizer],
    input_shape: Sequence[int],
    batch_size: int,
    device: str,
) -> BatchSeconds | None:
    """Times batches of random images: training with a new head, and evaluation.

    The network's buffers and gradients have no meaning afterwards.

    Args:
        backbone: The network without its head.
        num_features: That it returns for an image.
        num_classes: Of the head.
        make_optimizer: Called with parameters and ``lr``.
        input_shape: Of an image: channels, height, width.
        batch_size: Of one process.
        device: Where it will be trained.

    Returns:
        None if the network cannot be run so, for lack of memory for instance.
    """
    network = nn.Sequential(backbone, nn.Linear(num_features, num_classes))
    try:
        network.to(device).train()
        # A rate of zero: what is timed are steps, and random images would teach it nonsense.
        optimizer = make_optimizer(network.parameters(), lr=0.0)

        def train(count: int) -> None:
            images, labels = torch.rand(count, *input_shape, device=device), torch.zeros(count, device=device).long()
            optimizer.zero_grad()
            cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            _wait()

        def evaluate(count: int) -> None:
            with torch.no_grad():
                network(torch.rand(count, *input_shape, device=device))
            _wait()

        training = _seconds_per_image(train, batch_size, _BATCH)
        network.eval()
        return BatchSeconds(training, _seconds_per_image(evaluate, batch_size, _BATCH))
    except RuntimeError:
        return None
    finally:
        backbone.cpu().zero_grad()


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
