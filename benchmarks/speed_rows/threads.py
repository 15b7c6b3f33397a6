"""Pruning with two threads over pruning with one, by the clock, on VGG-16 at full width."""

import time

import torch

from packnet_pl import PackNet
from speed_rows.clock import Report, seconds
from speed_rows.networks import build, prunable_weights

__all__ = ["measure"]

ROUNDS = 9


def measure(quick: bool, report: Report) -> dict[str, list[float]]:
    """Returns the row's ratios; other programs on either core disturb them, as only the clock shows what threads do."""
    shared, _ = build("tiny" if quick else "vgg16")
    weights = prunable_weights(shared)
    drawn = [weight.clone() for weight in weights]

    def prune(threads: int) -> float:
        for weight, value in zip(weights, drawn, strict=True):
            weight.copy_(value)
        packnet = PackNet(shared)
        packnet.begin_task("first")
        torch.set_num_threads(threads)
        return seconds(lambda: packnet.prune(0.5), time.perf_counter)

    found = []
    for number in range((1 if quick else ROUNDS) + 1):
        report(f"pair {number} of {ROUNDS}")
        order = (1, 2) if number % 2 else (2, 1)
        taken = {threads: prune(threads) for threads in order}
        found.append(taken[2] / taken[1])
    torch.set_num_threads(1)
    return {"prune-threads": found[1:]}
