"""Images per second and worker: this package's image readers beside a bare torchvision ImageFolder.

    python benchmarks/data_loading.py [--images 192] [--rounds 9]

Both read the same generated JPEGs (500 x 375 pixels, crops of scikit-learn's photographs) in this one process, in
turns, with the same transform: resize to 256, random 224 crop, mirror, normalise; birds are cut out by their boxes and
resized to 224 x 224. Ours includes all that a training loader of a run does: the sampler, and a seed for each item.
Times are of the processor, so that other programs disturb little; a ratio is ours over torchvision's, the median of
the rounds. Below 0.95 the exit code is 1.
"""

import argparse
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.table import Table
from sklearn.datasets import load_sample_images
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.datasets.folder import default_loader
from torchvision.transforms import v2

from packnet_pl.data import TaskData, image_folder, published_images, read_cubs, read_imagenet
from packnet_pl.training import TaskDataModule

BATCH, LEAST = 16, 0.95
SIZE, BOX = (500, 375), (60, 40, 320, 280)  # width, height; left, top, width, height
WNIDS = ("n01440764", "n01443537")
TO_TENSOR = [
    v2.PILToTensor(),
    v2.ToDtype(torch.float32, scale=True),
    v2.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]),
]
CROP = v2.Compose([v2.Resize(256, antialias=True), v2.RandomCrop(224), v2.RandomHorizontalFlip(), *TO_TENSOR])
SQUARE = v2.Compose([v2.Resize((224, 224), antialias=True), v2.RandomHorizontalFlip(), *TO_TENSOR])


def photographs(count: int) -> Iterable[Image.Image]:
    """Yields images of 500 x 375 pixels, each another crop of a photograph with a little noise."""
    rng = np.random.default_rng(0)
    photos = load_sample_images().images
    for number in range(count):
        top, left = rng.integers(0, 427 - SIZE[1]), rng.integers(0, 640 - SIZE[0])
        crop = photos[number % 2][top : top + SIZE[1], left : left + SIZE[0]].astype(float)
        noisy = crop + rng.normal(0, 6, crop.shape)
        yield Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def write(root: Path, count: int) -> None:
    """Writes the same images as ImageNet and as CUB-200-2011: half of them per class, and some to test on."""
    birds, folders = root / "cubs", root / "imagenet"
    lines: dict[str, list[str]] = {
        name: [] for name in ("images", "image_class_labels", "train_test_split", "bounding_boxes", "classes")
    }
    for number, image in enumerate(photographs(count + 4), start=1):
        label = number % 2
        is_train = number <= count
        bird = f"00{label + 1}.Bird/{number}.jpg"
        for path in (
            folders / ("train" if is_train else "val") / WNIDS[label] / f"{number}.JPEG",
            birds / "images" / bird,
        ):
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path, quality=90)
        lines["images"].append(f"{number} {bird}")
        lines["image_class_labels"].append(f"{number} {label + 1}")
        lines["train_test_split"].append(f"{number} {int(is_train)}")
        lines["bounding_boxes"].append(f"{number} " + " ".join(f"{edge:.1f}" for edge in BOX))
    lines["classes"] = ["1 001.Bird", "2 002.Bird"]
    for name, rows in lines.items():
        (birds / f"{name}.txt").write_text("\n".join(rows) + "\n")
    # With a folder to validate on all of train is trained on, as in the others.
    shutil.copytree(folders / "val", root / "folder" / "val")
    for here, there in (("train", "train"), ("test", "val")):
        (root / "folder" / here).symlink_to(folders / there)


def cut_out(path: str) -> Image.Image:
    """Reads a bird as torchvision's loader does, and cuts it out."""
    left, top, width, height = BOX
    image: Image.Image = default_loader(path)
    return image.crop((left, top, left + width, top + height))


def ours(data: TaskData) -> Callable[[], Iterable[Any]]:
    """Returns what makes a training loader as a run does."""
    module = TaskDataModule(data, key=(0, "task", "train"), batch_size=BATCH)
    return module.train_dataloader


def theirs(folder: Path, transform: Any, loader: Any = default_loader) -> Callable[[], Iterable[Any]]:
    """Returns what makes a loader of a bare ImageFolder."""
    data = ImageFolder(str(folder), transform=transform, loader=loader)
    return lambda: DataLoader(data, batch_size=BATCH, shuffle=True, drop_last=True)


def rates(mine: Callable[[], Iterable[Any]], bare: Callable[[], Iterable[Any]], first: int) -> tuple[float, float]:
    """Returns images per second of processor time over one epoch of each, batch by batch in turns.

    Args:
        mine: Makes our loader.
        bare: Makes torchvision's.
        first: Which of them begins: 0 or 1.
    """
    iterators, seconds, count = [iter(mine()), iter(bare())], [0.0, 0.0], 0
    while True:
        for which in (first, 1 - first):
            begun = time.process_time()
            images, _ = next(iterators[which], (None, None))
            seconds[which] += time.process_time() - begun
            if images is None:  # both have as many batches
                return count / 2 / seconds[0], count / 2 / seconds[1]
            count += len(images)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description="Images per second and worker, beside a bare torchvision ImageFolder.")
    parser.add_argument("--images", type=int, default=192, help="JPEGs to train on (192)")
    parser.add_argument("--rounds", type=int, default=9, help="epochs of each, in turns (9)")
    given = parser.parse_args()
    torch.set_num_threads(1)
    console = Console(width=100)
    table = Table(title=f"JPEGs of {SIZE[0]} x {SIZE[1]} pixels, torch {torch.__version__}, one worker")
    table.add_column("reader")
    for heading in ("images/s", "torchvision, images/s", "ratio", "lowest to highest"):
        table.add_column(heading, justify="right")
    slow = False
    with tempfile.TemporaryDirectory() as name, console.status("writing images") as status:
        root = Path(name)
        write(root, given.images)
        cases = {
            "image_folder": (ours(image_folder(root / "folder")), theirs(root / "imagenet" / "train", CROP)),
            "imagenet": (
                ours(published_images(read_imagenet, root / "imagenet", subset=True, val_fraction=0)),
                theirs(root / "imagenet" / "train", CROP),
            ),
            "cubs": (
                ours(published_images(read_cubs, root / "cubs", subset=True, val_fraction=0)),
                theirs(root / "cubs" / "images", SQUARE, cut_out),
            ),
        }
        for reader, (mine, bare) in cases.items():
            rates(mine, bare, 0)
            found = []
            for number in range(given.rounds):
                status.update(f"{reader}: round {number + 1} of {given.rounds}")
                found.append(rates(mine, bare, number % 2))
            ratios = sorted(our / their for our, their in found)
            slow = slow or median(ratios) < LEAST
            table.add_row(
                reader,
                f"{median(our for our, _ in found):.0f}",
                f"{median(their for _, their in found):.0f}",
                f"{median(ratios):.2f}",
                f"{ratios[0]:.2f} to {ratios[-1]:.2f}",
            )
    console.print(table)
    sys.exit(int(slow))


if __name__ == "__main__":
    main()
