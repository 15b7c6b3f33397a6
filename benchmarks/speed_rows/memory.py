"""Peak memory of a process that trains, prunes and finishes a task and trains the next one, beside plain fine-tuning.

Each is measured in a process of its own, run as ``python -m speed_rows.memory plain|layer|global ARCH``.
"""

import gc
import json
import sys

import torch
from torch import nn

from packnet_pl import PackNet
from packnet_pl.choices import SCOPES, check_choice
from packnet_pl.core.loops import compiled
from speed_rows.clock import Report
from speed_rows.networks import OPTIMIZERS, batch_of, build, plain_step, prunable_weights
from speed_rows.process_memory import held_bytes, in_own_process, peak_bytes, restart_peak

__all__ = ["measure"]


def measure(quick: bool, report: Report) -> dict[str, list[float]]:
    """Returns row -> bytes per prunable weight, beyond what the process had before the network was made; once each."""
    arch = "tiny" if quick else "vgg16"
    found = {}
    for kind in ("plain", "layer", "global"):
        report(kind)
        peaks = in_own_process("memory", kind, arch)
        found[f"memory-{kind}"] = [peaks["peak"]]
        if kind != "plain":
            found[f"memory-prune-{kind}"] = [peaks["prune"]]
    return found


def _plain(shared: nn.Module, head: nn.Linear) -> None:
    network = nn.Sequential(shared, head)
    optimizer = OPTIMIZERS["momentum"](network.parameters())
    for _ in range(2):
        plain_step(network, optimizer, batch_of(4))


def _two_tasks(shared: nn.Module, head: nn.Linear, scope: str) -> tuple[int, int]:
    """Returns the peak before pruning, and what pruning took beyond what was held, the optimizer's state among that."""
    packnet, network = PackNet(shared), nn.Sequential(shared, head)

    def train(task: str) -> torch.optim.Optimizer:
        packnet.begin_task(task)
        optimizer = OPTIMIZERS["momentum"](network.parameters())
        optimizer.register_step_pre_hook(lambda *_: packnet.mask_gradients_())
        optimizer.register_step_post_hook(lambda *_: packnet.restore_())
        for _ in range(2):
            plain_step(network, optimizer, batch_of(4))
        return optimizer

    optimizer = train("first")
    peak, before = peak_bytes(), held_bytes()
    restart_peak()
    packnet.prune(0.5, scope=check_choice("scope", scope, SCOPES))
    taken = peak_bytes() - before
    del optimizer
    network.zero_grad()
    gc.collect()
    packnet.finish_task()
    train("second")
    return peak, taken


def _nothing(number: int) -> int:
    return number


def _main(kind: str, arch: str) -> None:
    torch.set_num_threads(1)
    compiled(_nothing)(0)  # what the compiler takes, 0.13 GB, does not grow with the network
    before = held_bytes()
    restart_peak()
    shared, head = build(arch)
    weights = sum(weight.numel() for weight in prunable_weights(shared))
    peak, prune = 0, 0
    if kind == "plain":
        _plain(shared, head)
    else:
        peak, prune = _two_tasks(shared, head, kind)
    highest = max(peak, peak_bytes()) - before
    print(json.dumps({"peak": highest / weights, "prune": prune / weights}))  # noqa: T201 - read by measure


if __name__ == "__main__":
    _main(*sys.argv[1:])
