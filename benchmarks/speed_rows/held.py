"""Memory that a fit of the second task holds beyond plain fine-tuning, between two steps, half of the weights frozen.

Each is measured in a process of its own, run as ``python -m speed_rows.held plain|packnet OPTIMIZER ARCH``.
"""

import json
import sys
from typing import Any

import numba
import pytorch_lightning as pl
import torch

from packnet_pl import PackNetCallback
from speed_rows.clock import Report
from speed_rows.fits import Classifier, loader_of, trainer_of
from speed_rows.networks import OPTIMIZERS, build, prunable_weights
from speed_rows.process_memory import held_bytes, in_own_process

__all__ = ["measure"]


class _Held(pl.Callback):
    """Notes what the process holds after the last step."""

    held = 0

    def on_train_batch_end(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.held = held_bytes()


def measure(quick: bool, report: Report) -> dict[str, list[float]]:
    """Returns row -> bytes per prunable weight, once each."""
    arch, found = "tiny" if quick else "vgg16", {}
    for row, optimizer in (("memory-held", "momentum"), ("memory-held-decay", "adamw")):
        held = {}
        for kind in ("plain", "packnet"):
            report(f"{kind}, {optimizer}")
            held[kind] = in_own_process("held", kind, optimizer, arch)["held"]
        found[row] = [held["packnet"] - held["plain"]]
    return found


def _main(kind: str, optimizer: str, arch: str) -> None:
    torch.set_num_threads(1)
    packs = kind == "packnet"
    numba.njit(lambda number: number)(1)  # loaded in both: what its compiler takes does not grow with weights
    before = held_bytes()
    module = Classifier(*build(arch), OPTIMIZERS[optimizer], packs)
    weights = sum(weight.numel() for weight in prunable_weights(module.shared))
    watch = _Held()
    callbacks: list[pl.Callback] = [watch]
    if packs:
        module.packnet.begin_task("first")
        module.packnet.prune(0.5)
        module.packnet.finish_task()
        callbacks.insert(0, PackNetCallback(task="second", phase="train", private="head"))
    trainer_of(*callbacks).fit(module, loader_of(3, 4, 64))
    print(json.dumps({"held": (watch.held - before) / weights}))  # noqa: T201 - read by measure


if __name__ == "__main__":
    _main(*sys.argv[1:])
