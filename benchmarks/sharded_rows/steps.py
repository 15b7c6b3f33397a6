"""Of a training step, the share that is spent in ``mask_gradients_`` and ``restore_``: sharded, and whole beside it."""

import time
from collections.abc import Callable
from statistics import median

import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.optim import Optimizer

from packnet_pl import PackNet
from sharded_rows.networks import batch_for, build_shared, shard_
from speed_rows.networks import OPTIMIZERS

__all__ = ["BATCH", "OF_STEP", "measure_steps"]

BATCH = {"tiny": 2, "transformer": 8, "resnet18": 16}
TASKS = ("first", "second", "third")
OF_STEP = ("sharded", "sharded by the clock", "whole")


def measure_steps(
    mesh: DeviceMesh, arch: str, optimizer: str, steps: int, own: bool, size: int
) -> dict[str, list[float]]:
    """Returns "TASK, PHASE" -> :data:`OF_STEP`: shares of a step in our calls, medians of ``steps`` steps.

    Seconds are those that the process's own thread computes, which leaves out what others send for it; by the clock
    the share is smaller, as both processes wait for each other.

    Args:
        mesh: All processes.
        arch: "tiny", "transformer" or "resnet18".
        optimizer: A key of ``OPTIMIZERS``.
        steps: To measure, after two.
        own: Whether retraining has an optimizer of its own, as Lightning's fits have, or goes on with that of before.
        size: Of the batch of each process.
    """
    networks = {"sharded": shard_(build_shared(arch), mesh), "whole": build_shared(arch)}
    packnets = {kind: PackNet(network) for kind, network in networks.items()}
    batch, found = batch_for(arch, size), dict[str, list[float]]()
    for task in TASKS:
        optimizers: dict[str, Optimizer] = {}
        for phase in ("train", "retrain"):
            taken: dict[str, list[tuple[float, ...]]] = {kind: [] for kind in networks}
            for kind, network in networks.items():
                if phase == "train":
                    packnets[kind].begin_task(task)
                if phase == "train" or own:
                    optimizers[kind] = OPTIMIZERS[optimizer](network.parameters())
            for number in range(steps + 2):
                for kind in networks:
                    of_step = _step(networks[kind], packnets[kind], optimizers[kind], batch)
                    taken[kind] += [of_step] if number >= 2 else []
            middle = {kind: [median(column) for column in zip(*rows, strict=True)] for kind, rows in taken.items()}
            sharded, whole = middle["sharded"], middle["whole"]
            found[f"{task}, {phase}"] = [sharded[0], sharded[1], whole[0]]
            for packnet in packnets.values():
                if phase == "train":
                    packnet.prune(0.75)
                else:
                    packnet.finish_task()
                dist.barrier()
    return found


def _step(network: nn.Module, packnet: PackNet, optimizer: Optimizer, batch: Tensor) -> tuple[float, float]:
    """Returns the share of our calls in the thread's seconds of a step, and in those of the clock."""
    optimizer.zero_grad()
    calls = (lambda: network(batch).square().mean().backward(), packnet.mask_gradients_, optimizer.step)
    compute, mask, step, restore = [_timed(call) for call in (*calls, packnet.restore_)]
    columns = zip(compute, mask, step, restore, strict=True)
    thread, clock = [
        (masked + restored) / (rest + masked + moved + restored) for rest, masked, moved, restored in columns
    ]
    return thread, clock


def _timed(call: Callable[[], object]) -> tuple[float, float]:
    thread, clock = time.thread_time(), time.perf_counter()
    call()
    return time.thread_time() - thread, time.perf_counter() - clock
