"""A short sequence of tasks as a run has it: random images, and the plan of a run over them."""

from pathlib import Path

import torch
from torch.utils.data import TensorDataset

from packnet_pl.data import TaskData
from packnet_pl.run import RunPlan, TaskPlan
from packnet_pl.training import Recipe, fit_task
from speed_rows.networks import OPTIMIZERS

__all__ = ["BATCH", "CLASSES", "EPOCHS", "plan_of", "random_task"]

BATCH, CLASSES = 16, 5
EPOCHS = {"train": 2, "retrain": 1}


def random_task(number: int, images: int, pixels: int) -> TaskData:
    """Returns a task of random images (3 x pixels x pixels), a quarter as many to validate, and to test on."""
    generator = torch.Generator().manual_seed(number)

    def split(count: int) -> TensorDataset:
        drawn = torch.randn(count, 3, pixels, pixels, generator=generator)
        return TensorDataset(drawn, torch.randint(CLASSES, (count,), generator=generator))

    names = tuple("abcde"[:CLASSES])
    return TaskData(
        split(images), split(images // 4), split(images // 4), names, (3, pixels, pixels), (0.0,) * 3, (1.0,) * 3
    )


def plan_of(folder: Path, tasks: int, images: int, pixels: int) -> RunPlan:
    """Returns the plan of a run, as ``packnet-train`` makes one, at ratio 0.5."""
    recipe = Recipe(OPTIMIZERS["momentum"])
    return RunPlan(
        folder=folder,
        tasks=tuple(
            TaskPlan(
                f"task {number}",
                random_task(number, images, pixels),
                0.5,
                {"train": EPOCHS["train"], "retrain": EPOCHS["retrain"]},
                {"train": recipe, "retrain": recipe},
            )
            for number in range(1, tasks + 1)
        ),
        method="packnet",
        settings={},
        together=False,
        packs=True,
        fit=fit_task,
        arch="resnet18",
        seed=0,
        batch_size=BATCH,
        accumulate=1,
        every_n_steps=None,
        num_workers=0,
        device="cpu",
        trainer={"accelerator": "cpu", "devices": 1},
        loggers=None,
    )
