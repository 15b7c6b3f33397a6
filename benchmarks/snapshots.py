"""What a snapshot of a few filters costs, three of which a task takes, beside pruning the task."""

import argparse
import sys
import time
from statistics import median

import torch
from torchvision.models import get_model

from packnet_pl import PackNet
from packnet_pl.training import FilterSnapshots


def main() -> None:
    """Prints one line: milliseconds of a snapshot, and of pruning half of the weights in a process that is warm."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--arch", default="resnet50", help="any classifier of torchvision")
    options = parser.parse_args()
    torch.manual_seed(0)
    packnet, snapshots = PackNet(get_model(options.arch, weights=None)), FilterSnapshots()
    packnet.begin_task("first")
    packnet.prune(0.5)  # compiles its loops
    packnet.finish_task()
    packnet.begin_task("second")
    seconds = []
    for _ in range(21):
        begun = time.perf_counter()
        snapshots.take(packnet, "second", "dense")
        seconds.append(time.perf_counter() - begun)
    begun = time.perf_counter()
    packnet.prune(0.5)
    pruning = time.perf_counter() - begun
    sys.stdout.write(f"{options.arch}: a snapshot {1e3 * median(seconds):.1f} ms, pruning {1e3 * pruning:.0f} ms\n")


if __name__ == "__main__":
    main()
