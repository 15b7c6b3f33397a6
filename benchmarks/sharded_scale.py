"""What ViT-L/16 and a network of 7 billion parameters need on eight GPUs that share them: docs/scale.md, on paper.

    python benchmarks/sharded_scale.py           prints the tables
    python benchmarks/sharded_scale.py --write   puts them into docs/scale.md

Nothing is trained. Parameters are counted on the networks, made on the meta device; what each of them needs in bytes is
held against real tensors by tests/docs/test_sharded_scale.py.
"""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from packnet_pl.capacity import forecast
from packnet_pl.core import is_weight
from scale import as_table, print_or_write

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["Bytes", "Sizes", "bytes_of", "counts_sent", "packed_bytes", "sizes_of", "tables"]

GPUS = 8
RATIO = 0.75
TASKS = (1, 2, 4, 8)
GIBI = 2**30
PASSES, TABLE, OWNERS, COUNT = 3, 2048, 256, 8  # of prune for float32; entries of a table; bytes of a count


@dataclass(frozen=True)
class Bytes:
    """Of each weight that a GPU has, in float32.

    Attributes:
        weights: Themselves.
        gradients: Theirs.
        moments: Of Adam.
        owners: A number each.
        masks: From the first prune on.
        frozen: Values that a step is put right with, from the second task on.
        released: While a task is pruned, beside all these.
        scratch: Of the largest layer alone, at most, while a task is pruned.
    """

    weights: int = 4
    gradients: int = 4
    moments: int = 8
    owners: int = 1
    masks: int = 1
    frozen: int = 4
    released: int = 1
    scratch: int = 20

    @property
    def plain(self) -> int:
        """Without PackNet."""
        return self.weights + self.gradients + self.moments

    @property
    def packs(self) -> int:
        """With PackNet, from the second task on."""
        return self.plain + self.owners + self.masks + self.frozen


@dataclass(frozen=True)
class Sizes:
    """Of a network.

    Attributes:
        layers: Weights of each layer that tasks divide among themselves.
        others: Other parameters.
    """

    layers: list[int]
    others: int

    @property
    def weights(self) -> int:
        """Of all layers."""
        return sum(self.layers)

    @property
    def parameters(self) -> int:
        """All."""
        return self.weights + self.others


class _Llama(nn.Module):
    """The parameters of 7 billion: 32 blocks, 4096 wide, 11008 inside; the output layer is a task's own."""

    def __init__(self, width: int = 4096, inside: int = 11_008, depth: int = 32, words: int = 32_000) -> None:
        super().__init__()
        self.words = nn.Embedding(words, width)
        self.blocks = nn.ModuleList(nn.ModuleDict(dict(_block(width, inside))) for _ in range(depth))
        self.norm = nn.RMSNorm(width)


def _block(width: int, inside: int) -> "Iterator[tuple[str, nn.Module]]":
    for name in ("query", "key", "value", "out"):
        yield name, nn.Linear(width, width, bias=False)
    for name in ("gate", "up"):
        yield name, nn.Linear(width, inside, bias=False)
    yield "down", nn.Linear(inside, width, bias=False)
    yield "before", nn.RMSNorm(width)
    yield "after", nn.RMSNorm(width)


def networks() -> dict[str, nn.Module]:
    """Returns name -> shared part, without memory."""
    from torchvision.models import vit_l_16

    with torch.device("meta"):
        vit = vit_l_16()
        vit.heads = nn.Identity()
        return {"ViT-L/16": vit, "7 billion": _Llama()}


def sizes_of(network: nn.Module) -> Sizes:
    """Counts the parameters of a network, as ``PackNet`` divides them by its rule "weights"."""
    layers, others = [], 0
    for prefix, layer in network.named_modules():
        for key, parameter in layer.named_parameters(recurse=False):
            if is_weight(f"{prefix}.{key}", layer, parameter):
                layers.append(parameter.numel())
            else:
                others += parameter.numel()
    return Sizes(layers, others)


def bytes_of(sizes: Sizes, gpus: int = GPUS, each: Bytes | None = None) -> dict[str, float]:
    """Returns what -> bytes on each of ``gpus``."""
    each = each or Bytes()
    parameters, weights = sizes.parameters / gpus, sizes.weights / gpus
    frozen = each.frozen * parameters  # others are frozen whole
    packs = each.plain * parameters + (each.owners + each.masks) * weights + frozen
    return {
        "weights": each.weights * parameters,
        "gradients": each.gradients * parameters,
        "Adam's moments": each.moments * parameters,
        "owners": each.owners * weights,
        "masks": each.masks * weights,
        "frozen values": frozen,
        "all of these": packs,
        "without PackNet": each.plain * parameters,
        "more while pruning": each.released * weights + each.scratch * max(sizes.layers) / gpus,
        "checkpoint": (each.weights + each.moments) * parameters + each.owners * weights,
    }


def shares(layers: list[int], tasks: int) -> list[int]:
    """Returns how many weights each task owns, of which all release :data:`RATIO`."""
    return [owned for owned, _ in forecast(layers, [RATIO] * tasks)]


def packed_bytes(sizes: Sizes, tasks: int, width: int = 4) -> float:
    """Returns the size of the packed file, without heads and header: owned values, others, entropy of the owners.

    Args:
        sizes: Of the network.
        tasks: How many are in it.
        width: Bytes of a value that a task owns.
    """
    owned = shares(sizes.layers, tasks)
    fractions = [count / sizes.weights for count in (*owned, sizes.weights - sum(owned)) if count]
    bits = -sum(fraction * math.log2(fraction) for fraction in fractions)
    return width * sum(owned) + 4 * sizes.others + bits * sizes.weights / 8


def counts_sent(sizes: Sizes, gpus: int = GPUS) -> dict[str, int]:
    """Returns call -> bytes of counts that processes add up."""
    layers = len(sizes.layers)
    pruning = layers * COUNT * (1 + 4 + PASSES * TABLE + gpus)  # finite?, how many, tables, ties of each process
    return {"prune": pruning, "fingerprints": layers * COUNT * OWNERS}


def tables() -> dict[str, str]:
    """Returns the name of each table in docs/scale.md -> its text."""
    found = {name: sizes_of(network) for name, network in networks().items()}
    needs = {name: bytes_of(sizes) for name, sizes in found.items()}
    head = ["GiB on each of 8 GPUs", *(f"{name}, {sizes.parameters / 1e6:,.0f} M" for name, sizes in found.items())]
    rows = [[what, *(f"{need[what] / GIBI:.2f}" for need in needs.values())] for what in next(iter(needs.values()))]
    packed = [
        [
            str(tasks),
            f"{100 * (1 - RATIO**tasks):.1f} %",
            *(f"{packed_bytes(sizes, tasks, width) / 1e9:.2f}" for sizes in found.values() for width in (4, 2)),
        ]
        for tasks in TASKS
    ]
    packed_head = ["tasks", "owned", *(f"{name}, {kind}" for name in found for kind in ("float32", "bfloat16"))]
    sent = {name: counts_sent(sizes) for name, sizes in found.items()}
    sent_rows = [[call, *(f"{of[call] / 1e6:.1f}" for of in sent.values())] for call in ("prune", "fingerprints")]
    sent_rows.append(
        ["all weights, for comparison", *(f"{4 * sizes.parameters / 1e6:,.0f}" for sizes in found.values())]
    )
    return {
        "sharded-memory": as_table(head, rows),
        "sharded-packed": as_table(packed_head, packed),
        "sharded-counts": as_table(["MB added up over all processes", *found], sent_rows),
    }


if __name__ == "__main__":
    print_or_write(tables, str(__doc__))
