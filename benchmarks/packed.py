"""Size, coding time and switch cost of four tasks: python benchmarks/packed.py [--arch A] [--threads N] [--width W].

Weights are random, and so are the owners at (0.5, 0.75, 0.75): no coder can do better there than their entropy. Needs
about 4 GB of memory for VGG-16.
"""

import argparse
import math
import statistics
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from packnet_pl import TaskClassifier, load_packed, save_packed
from packnet_pl.core.fingerprints import task_fingerprints
from packnet_pl.models import torchvision_backbone
from packnet_pl.packed import PackedNetwork
from packnet_pl.packed.owner_coding import decode_owners, encode_owners

SHARES = (0.5, 0.125, 0.09375, 0.28125)
CLASSES = 200
ROUNDS = 7


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--arch", default="vgg16", help="a network of torchvision: vgg16, resnet50, densenet121, ...")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--width", type=float, default=1.0, help="below 1 for a trial with less memory")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    console = Console()
    console.print(f"building {arguments.arch} with four tasks")
    model = build(arguments.arch, arguments.width)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "packed.safetensors"
        to_save = times(lambda: save_packed(model, path))
        owners = model.packnet.owners
        console.print(sizes(model, owners, path))
        console.print(coding(owners))
        to_load = times(lambda: load_packed(path))
        console.print(f"whole file: written in {to_save}; read, checked and built in {to_load}")
        console.print(switching(load_packed(path)))


def build(arch: str, width: float) -> TaskClassifier:
    """Returns a network of four tasks with the shares that pruning gives them, at random places; nothing is trained."""
    torch.manual_seed(0)
    model = TaskClassifier(torchvision_backbone(arch, width=width))
    for number in range(len(SHARES)):
        model.add_task(f"task {number + 1}", num_classes=CLASSES)
    packnet = model.packnet
    layers = packnet.summary().owned
    weights = {name: model.backbone.get_parameter(name).detach() for name in layers}
    bounds = torch.tensor(SHARES).cumsum(0)[:-1]
    owners = {}
    for name, weight in weights.items():
        owners[name] = torch.ones(weight.shape, dtype=torch.uint8)
        drawn = torch.rand(weight.shape)
        for bound in bounds:
            owners[name] += drawn >= bound
    state = packnet.state_dict()
    fingerprints = [task_fingerprints(weights, owners, number + 1, {}) for number in range(len(SHARES))]
    packnet.load_state_dict(
        {
            **state,
            "tasks": model.tasks,
            "owners": owners,
            "fingerprints": dict(zip(model.tasks, fingerprints, strict=True)),
            "copies": {task: {} for task in model.tasks},
        }
    )
    return model


def sizes(model: TaskClassifier, owners: dict[str, Tensor], path: Path) -> Table:
    """Returns bits per weight of the owners in several forms, and the file beside four networks."""
    counts = {name: torch.bincount(owner.flatten(), minlength=5).tolist() for name, owner in owners.items()}
    weights = sum(owner.numel() for owner in owners.values())
    coded = sum(len(encode_owners(owner.reshape(-1).numpy(), counts[name])) for name, owner in owners.items())
    entropy = sum(-count * math.log2(count / sum(found)) for found in counts.values() for count in found if count)
    table = Table("owners", "bits per weight", "over entropy", title=f"{weights:,} prunable weights, four tasks")
    for name, bits in (
        ("one byte", 8.0),
        ("log2(tasks + 1)", math.log2(len(SHARES) + 1)),
        ("in the file", 8 * coded / weights),
        ("entropy", entropy / weights),
    ):
        table.add_row(name, f"{bits:.4f}", f"{bits / (entropy / weights):.4f}")
    backbone = sum(parameter.numel() for parameter in model.backbone.parameters())
    head = (model.heads.num_features + 1) * CLASSES
    four = 4 * len(SHARES) * (backbone + head)
    size = path.stat().st_size
    table.add_section()
    table.add_row("whole file, bytes", f"{size:,}", "")
    table.add_row("four networks, bytes", f"{four:,}", "")
    table.add_row("file over four networks", f"{size / four:.4f}", "")
    table.add_row("file over one network", f"{size / (four / 4):.4f}", "")
    return table


def coding(owners: dict[str, Tensor]) -> Table:
    """Returns the seconds to code and decode the owners of all layers."""
    table = Table("coding of owners", "seconds", title=f"{torch.get_num_threads()} threads")
    encode = decode = 0.0
    for owner in owners.values():
        flat = owner.reshape(-1).numpy()
        counts = torch.bincount(owner.flatten(), minlength=5).tolist()
        coded = encode_owners(flat, counts)
        assert (decode_owners(coded, counts) == flat).all()
        encode += seconds(partial(encode_owners, flat, counts))
        decode += seconds(partial(decode_owners, coded, counts))
    table.add_row("encode", f"{encode:.2f}")
    table.add_row("decode", f"{decode:.2f}")
    return table


def switching(network: PackedNetwork) -> Table:
    """Returns the cost of a switch over that of copying all prunable weights, each switch beside a copy."""
    packnet = network.packnet
    assert packnet is not None
    names = list(packnet.owners)
    weights = [network.backbone.get_parameter(name).detach() for name in names]
    others = [torch.ones_like(weight) for weight in weights]

    def copy() -> None:
        for other, weight in zip(others, weights, strict=True):
            other.copy_(weight)

    tasks = network.tasks
    for number in range(12):  # until the loop is compiled, also for small networks
        network.show(tasks[number % 2])
    table = Table("from, over one copy", *(f"to {task}" for task in tasks), title=f"medians of {ROUNDS}")
    every = []
    for before in tasks:
        medians = []
        for task in tasks:
            ratios = []
            for _ in range(ROUNDS):
                network.show(before)
                switched, copied = seconds(partial(network.show, task)), seconds(copy)
                ratios.append(switched / copied)
            medians.append(statistics.median(ratios))
            every += [medians[-1]] if before != task else []
        table.add_row(before, *(f"{median:.3f}" for median in medians))
    table.caption = f"mean of all switches: {statistics.mean(every):.2f}; the largest: {max(every):.2f}"
    return table


def times(action: Callable[[], object]) -> str:
    """Returns the CPU seconds and the wall seconds, as text."""
    begun, used = time.perf_counter(), time.process_time()
    action()
    return f"{time.process_time() - used:.1f} CPU seconds ({time.perf_counter() - begun:.1f} by the clock)"


def seconds(action: Callable[[], object]) -> float:
    """Returns the CPU seconds of one thread, or the wall seconds of several: other programs disturb the latter."""
    clock = time.process_time if torch.get_num_threads() == 1 else time.perf_counter
    begun = clock()
    action()
    return clock() - begun


if __name__ == "__main__":
    main()
