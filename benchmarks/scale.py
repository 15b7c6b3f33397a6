"""What ImageNet, Places365 and three fine-grained tasks cost on eight GPUs: the tables of docs/scale.md, on paper.

    python benchmarks/scale.py           prints them
    python benchmarks/scale.py --write   puts them into docs/scale.md

Nothing is trained. Parameters, owners and what is kept for the backward pass are counted on the networks themselves;
images per second are published measurements of others.
"""

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from packnet_pl import PackNet, TaskClassifier
from packnet_pl.capacity import forecast
from packnet_pl.models import torchvision_backbone

DOCUMENT = Path(__file__).parent.parent / "docs" / "scale.md"
GPUS = 8
MEBI = 2**20


@dataclass(frozen=True)
class Task:
    """One task of the sequence; ``ratio`` None keeps all weights, and then there is no retraining."""

    name: str
    classes: int
    train: int
    test: int
    dense: int
    retrain: int
    ratio: float | None


# Images and classes as in the data sets' own papers; epochs as in conf/sequence/paper.yaml.
TASKS = [
    Task("ImageNet", 1000, 1_281_167, 50_000, 0, 10, 0.5),
    Task("Places365", 365, 1_803_460, 36_500, 10, 10, 0.75),
    Task("CUBS", 200, 5_994, 5_794, 20, 10, 0.75),
    Task("Cars", 196, 8_144, 8_041, 20, 10, 0.75),
    Task("Flowers", 102, 2_040, 6_149, 20, 0, None),
]
# Images per second of eight GPUs together, training: see docs/scale.md for where they come from.
P100 = {"vgg16": 898.0, "resnet50": 1630.0}
A100 = {"vgg16": 7248.0 * 898 / 1630, "resnet50": 7248.0}
# Forward alone is a third of forward and backward: the backward pass computes two products where the forward has one.
FORWARD = 3


def tables() -> dict[str, str]:
    """Returns the name of each table in docs/scale.md -> its text."""
    networks = {name: torchvision_backbone(name) for name in ("vgg16", "resnet50")}
    return {
        "images": _images(),
        "hours": _hours(),
        "owners": _owners(networks),
        "memory": _memory(networks | {name: torchvision_backbone(name) for name in ("vgg16_bn", "densenet121")}),
        "storage": _storage(networks),
    }


def trained() -> int:
    """Images that go forward and backward in the whole run."""
    return sum((task.dense + task.retrain) * task.train for task in TASKS)


def asked() -> int:
    """Images that only go forward: validation after each epoch and at three moments, all tests after each task.

    The test split stands for the validation split, whose size is the user's choice.
    """
    validation = sum((task.dense + task.retrain + 3) * task.test for task in TASKS)
    return validation + sum(task.test for number in range(len(TASKS)) for task in TASKS[: number + 1])


def _images() -> str:
    rows = [
        [
            task.name,
            f"{task.train:,}",
            f"{task.dense} + {task.retrain}",
            f"{(task.dense + task.retrain) * task.train:,}",
            "-" if task.ratio is None else f"{task.ratio:g}",
        ]
        for task in TASKS
    ]
    rows.append(["all", "", "", f"{trained():,}", ""])
    return as_table(["task", "train images", "epochs", "images trained", "ratio"], rows)


def _hours() -> str:
    rows = []
    for name in ("vgg16", "resnet50"):
        for machine, speeds in (("8 P100, float32", P100), ("8 A100, TF32", A100)):
            training, asking = trained() / speeds[name] / 3600, asked() / (FORWARD * speeds[name]) / 3600
            rows.append([name, machine, f"{speeds[name]:,.0f}", f"{training:.1f}", f"{asking:.2f}"])
            rows[-1].append(f"{training + asking:.1f}")
    return as_table(["network", "machine", "images/s", "hours training", "hours asking", "hours"], rows)


def _owners(networks: dict[str, torch.nn.Module]) -> str:
    rows = []
    for name, network in networks.items():
        layers = [share.weights for share in PackNet(network).summary().layers.values()]
        shares = forecast(layers, [task.ratio for task in TASKS])
        total = sum(layers)
        owned = ", ".join(f"{100 * share / total:.2f} %" for share, _ in shares)
        rows.append([name, f"{total:,}", owned, f"{_entropy([share for share, _ in shares], total):.2f}"])
    return as_table(["network", "prunable weights", "owned by each task", "bits per weight"], rows)


def _memory(networks: dict[str, torch.nn.Module]) -> str:
    rows = []
    for name, network in networks.items():
        parameters = sum(parameter.numel() for parameter in network.parameters())
        # float32: weights, gradients, DDP's buckets, momentum, and the values that a step is put right with, at full
        # length on a GPU; and one byte each for the owner and for the mask.
        state = parameters * (5 * 4 + 2) / MEBI
        image = _kept_for_backward(network) / MEBI
        in_all = (state + 32 * image) / 1024
        rows.append([name, f"{parameters:,}", f"{state:,.0f}", f"{image:,.0f}", f"{in_all:.1f}"])
    return as_table(["network", "parameters", "MiB of state", "MiB per image", "GiB with 32 images"], rows)


def _storage(networks: dict[str, torch.nn.Module]) -> str:
    rows = []
    fits = sum(1 + (task.ratio is not None) for task in TASKS)
    for name, network in networks.items():
        parameters = sum(parameter.numel() for parameter in network.parameters())
        layers = [share.weights for share in PackNet(network).summary().layers.values()]
        shares = [share for share, _ in forecast(layers, [task.ratio for task in TASKS])]
        features = TaskClassifier(network).heads.num_features
        heads = sum(task.classes * (features + 1) for task in TASKS)
        packed = 4 * (parameters + heads) + sum(layers) * _entropy(shares, sum(layers)) / 8
        separate = 4 * (len(TASKS) * parameters + heads)
        checkpoints = fits * parameters * (4 + 4 + 1)
        rows.append([name, *(f"{size / 1e6:,.0f}" for size in (packed, separate, checkpoints))])
    return as_table(["network", "MB packed", "MB as five networks", "MB of checkpoints"], rows)


def _entropy(shares: list[int], total: int) -> float:
    fractions = [share / total for share in [*shares, total - sum(shares)] if share]
    return -sum(fraction * math.log2(fraction) for fraction in fractions)


def _kept_for_backward(network: torch.nn.Module, size: int = 224) -> int:
    """Returns the bytes that autograd keeps for one image, without the weights: the difference of two batches."""
    kept = []
    for batch in (1, 2):
        storages: dict[int, torch.UntypedStorage] = {}

        def pack(tensor: torch.Tensor, storages: dict[int, torch.UntypedStorage] = storages) -> torch.Tensor:
            storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            network.train()(torch.zeros(batch, 3, size, size))
        kept.append(sum(storage.nbytes() for storage in storages.values()))
    return kept[1] - kept[0]


def as_table(head: list[str], rows: list[list[str]]) -> str:
    """Returns a Markdown table, its first column to the left, the others to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def written(text: str, found: dict[str, str]) -> str:
    """Returns ``text`` with each table between its marks."""
    for name, table in found.items():
        begin, end = f"<!-- {name} -->\n", f"<!-- end of {name} -->"
        before, _, rest = text.partition(begin)
        _, mark, after = rest.partition(end)
        if not mark:
            raise ValueError(f"there is no place for {name}: it stands between {begin.strip()} and {end}")
        text = f"{before}{begin}{table}\n{end}{after}"
    return text


def print_or_write(tables: Callable[[], dict[str, str]], description: str) -> None:
    """Runs a command line that prints tables, or with --write puts them into docs/scale.md.

    Args:
        tables: Returns them by the name of their place.
        description: Of the program.
    """
    parser = argparse.ArgumentParser(description=description.partition("\n")[0])
    parser.add_argument("--write", action="store_true", help="put the tables into docs/scale.md")
    if parser.parse_args().write:
        DOCUMENT.write_text(written(DOCUMENT.read_text(encoding="utf-8"), tables()), encoding="utf-8")
    else:
        sys.stdout.write("\n\n".join(f"{name}\n{table}" for name, table in tables().items()) + "\n")


if __name__ == "__main__":
    print_or_write(tables, str(__doc__))
