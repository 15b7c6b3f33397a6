"""Prints what augmentation of embedded tasks adds to a training step: milliseconds of one core, least of three passes.

python benchmarks/augmentation.py
"""

import time
from collections.abc import Iterator
from itertools import islice

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from packnet_pl.data import TaskData, digits, glyphs, spectro
from packnet_pl.models import vgg_small
from packnet_pl.training import TaskDataModule

BATCHES = 6
"""Of 64 images each; of one pass."""


def main() -> None:
    """Measures, and prints a line for each task and kind."""
    torch.set_num_threads(1)
    tasks = {
        "greek, none": glyphs("greek", train_per_class=40),
        "greek, affine": glyphs("greek", train_per_class=40, augment="affine"),
        "digits, none": digits(),
        "digits, affine": digits(augment="affine"),
        "spectro, none": spectro(),
        "spectro, specaugment": spectro(augment="specaugment"),
    }
    least: dict[str, float] = {}
    for _ in range(3):
        for name, data in tasks.items():
            least[name] = min(least.get(name, 1e9), *steps(data))
    for name, seconds in least.items():
        print(f"{name}: {1e3 * seconds:.1f} ms")  # noqa: T201


def steps(data: TaskData) -> Iterator[float]:
    """Yields the seconds of the processor that a step took, reading included."""
    net = nn.Sequential(vgg_small(stages=[[16], [32, 32], [64, 64]], hidden=128), nn.Linear(128, len(data.class_names)))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    begun = time.process_time()
    for images, labels in islice(TaskDataModule(data, key=(0, "task", "train")).train_dataloader(), BATCHES):
        optimizer.zero_grad()
        cross_entropy(net(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        ended = time.process_time()
        yield ended - begun
        begun = ended


if __name__ == "__main__":
    main()
