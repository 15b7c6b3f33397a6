"""Step time and memory of two tasks on generated images: python benchmarks/steps.py [--arch vgg16 resnet50] ...

Each network trains, prunes, retrains and freezes two tasks from end to end, and then fine-tunes without PackNet, in the
same process: the ratio is what PackNet costs. At the end the first task is asked again, bit for bit.
"""

import argparse
import statistics
import time
from typing import Any

import pytorch_lightning as pl
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from packnet_pl import TaskClassifier, fit_task
from packnet_pl.choices import Phase
from packnet_pl.methods import FineTuning
from packnet_pl.models import torchvision_backbone

CLASSES = 200
WARM_UP = 5


class Generated(Dataset[tuple[Tensor, int]]):
    """A few images of noise, again and again: what is measured is the step, not the reading of files."""

    def __init__(self, count: int, image_size: int) -> None:
        self._images, self._count = torch.randn(64, 3, image_size, image_size), count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self._images[index % 64], index % CLASSES


class Clock(pl.Callback):
    """Notes the seconds of each step, from the end of one to the end of the next, and the most memory used."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.peak = 0
        self._last: float | None = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Counts memory from here."""
        if pl_module.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Notes the step."""
        if pl_module.device.type == "cuda":
            torch.cuda.synchronize()
            self.peak = torch.cuda.max_memory_allocated()
        now = time.perf_counter()
        if self._last is not None and batch_idx >= WARM_UP:
            self.seconds.append(now - self._last)
        self._last = now

    @property
    def milliseconds(self) -> float:
        """Median of a step."""
        return 1000 * statistics.median(self.seconds)


def main() -> None:
    """Prints one row per fit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", nargs="+", default=["vgg16", "resnet50"], help="of torchvision")
    parser.add_argument("--accelerator", default="gpu" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--precision", default="bf16-mixed")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--steps", type=int, default=60, help=f"per fit; the first {WARM_UP} are not counted")
    parser.add_argument("--width", type=float, default=1.0, help="below 1 for a trial")
    arguments = parser.parse_args()
    console = Console()
    table = Table(title=f"{arguments.precision}, batches of {arguments.batch_size}, {arguments.image_size} pixels")
    table.add_column("network")
    for heading in ("fit", "ms per step", "over plain", "images/s", "memory, GB"):
        table.add_column(heading, justify="right")
    for name in arguments.arch:
        clocks, unchanged = measure(name, arguments, console)
        plain = clocks["plain"].milliseconds
        for fit, clock in clocks.items():
            table.add_row(
                name,
                fit,
                f"{clock.milliseconds:.2f}",
                f"{clock.milliseconds / plain:.3f}",
                f"{1000 * arguments.batch_size / clock.milliseconds:,.0f}",
                f"{clock.peak / 1e9:.2f}" if clock.peak else "-",
            )
        console.print(f"{name}: the first task answers {'the same bits' if unchanged else 'OTHER BITS'} in the end")
    console.print(table)


def measure(name: str, arguments: argparse.Namespace, console: Console) -> tuple[dict[str, Clock], bool]:
    """Returns fit -> clock, and whether the first task's logits stayed what they were."""
    torch.manual_seed(0)
    data = Generated(arguments.steps * arguments.batch_size, arguments.image_size)
    loader = DataLoader(data, batch_size=arguments.batch_size, pin_memory=arguments.accelerator == "gpu")
    probe = torch.randn(8, 3, arguments.image_size, arguments.image_size)
    clocks: dict[str, Clock] = {}

    def make_trainer(fit: str, *callbacks: pl.Callback) -> pl.Trainer:
        console.print(f"{name}: {fit}")
        clocks[fit] = Clock()
        return pl.Trainer(
            accelerator=arguments.accelerator,
            devices=1,
            precision=arguments.precision,
            max_epochs=1,
            callbacks=[*callbacks, clocks[fit]],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        )

    model = TaskClassifier(torchvision_backbone(name, image_size=arguments.image_size, width=arguments.width))
    answers = []
    for task in ("first", "second"):

        def of_task(phase: Phase, callback: pl.Callback, task: str = task) -> pl.Trainer:
            return make_trainer(f"{task}, {phase}", callback)

        model.add_task(task, num_classes=CLASSES)
        fit_task(
            model,
            loader,
            task=task,
            prune_ratio=0.75,
            make_trainer=of_task,
        )
        with torch.no_grad():
            answers.append(model.eval()(probe, task="first"))
        model.train()
    plain = FineTuning(model.backbone)
    plain.add_task("plain", num_classes=CLASSES)
    make_trainer("plain").fit(plain, loader)
    return clocks, torch.equal(*answers)


if __name__ == "__main__":
    main()
