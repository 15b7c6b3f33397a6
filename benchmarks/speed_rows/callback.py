"""What PackNetCallback adds to a step of a Lightning fit, on a network whose own step takes next to nothing."""

from statistics import median

import torch
from torch import nn

from packnet_pl import PackNetCallback
from speed_rows.clock import Report
from speed_rows.fits import Classifier, StepTimes, loader_of, trainer_of
from speed_rows.networks import OPTIMIZERS

__all__ = ["measure"]

LAYERS, WIDTH, ROUNDS, STEPS = 20, 16, 11, 200


def measure(quick: bool, report: Report) -> dict[str, list[float]]:
    """Returns the row: microseconds of a step of the second task beyond a plain one; a pair of fits each."""
    rounds, steps = (1, 20) if quick else (ROUNDS, STEPS)
    modules = {
        packs: Classifier(_shared(), nn.Linear(WIDTH, 10), OPTIMIZERS["momentum"], packs) for packs in (True, False)
    }
    packnet = modules[True].packnet
    packnet.begin_task("first")
    packnet.prune(0.5)
    packnet.finish_task()
    loader, found = loader_of(steps, 8, 4), []
    for number in range(rounds + 1):
        report(f"pair {number} of {rounds}")
        taken = {}
        for packs in (True, False) if number % 2 else (False, True):
            watch = StepTimes()
            callbacks = [PackNetCallback(task="second", phase="train", prune_ratio=0.5, private="head"), watch]
            trainer_of(*(callbacks if packs else [watch])).fit(modules[packs], loader)
            taken[packs] = median(watch.seconds)
            if packs:
                packnet.abort_task()
        found.append(1e6 * (taken[True] - taken[False]))
    return {"callback": found[1:]}


def _shared() -> nn.Sequential:
    torch.manual_seed(0)
    shared = nn.Sequential(nn.Flatten(), nn.Linear(48, WIDTH))
    for _ in range(LAYERS - 1):
        shared.append(nn.ReLU()).append(nn.Linear(WIDTH, WIDTH))
    return shared
