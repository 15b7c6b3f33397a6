"""A step of two processes (gloo) with PackNetCallback over one of plain Lightning DDP, ResNet-18, 64 pixels."""

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from statistics import median

import torch

from packnet_pl import PackNetCallback
from speed_rows.clock import Report
from speed_rows.fits import Classifier, StepTimes, loader_of, trainer_of
from speed_rows.networks import OPTIMIZERS, build

__all__ = ["measure"]

ROUNDS, STEPS = 8, 15


def measure(quick: bool, report: Report) -> dict[str, list[float]]:
    """Returns the row's ratios: by the clock, of the process that is rank 0; fits of both kinds in turns."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-m",
        "speed_rows.ddp",
        *(("tiny", "1", "8") if quick else ("resnet18", str(ROUNDS), str(STEPS))),
    ]
    report("two processes")
    processes = [
        subprocess.Popen(
            command,
            cwd=Path(__file__).parents[1],
            env={**os.environ, **common, "RANK": str(rank), "LOCAL_RANK": str(rank), "NODE_RANK": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    outputs = [process.communicate() for process in processes]
    for process, (_, errors) in zip(processes, outputs, strict=True):
        if process.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{errors}")
    return {"ddp": json.loads(outputs[0][0].splitlines()[-1])}


def _main(arch: str, rounds: str, steps: str) -> None:
    torch.set_num_threads(1)
    modules = {packs: Classifier(*build(arch), OPTIMIZERS["momentum"], packs) for packs in (True, False)}
    packnet = modules[True].packnet
    packnet.begin_task("first")
    packnet.prune(0.5)
    packnet.finish_task()
    loader, found = loader_of(int(steps), 8, 64), []
    for number in range(int(rounds) + 1):
        taken = {}
        for packs in (True, False) if number % 2 else (False, True):
            watch = StepTimes(time.perf_counter)
            callbacks = [PackNetCallback(task="second", phase="train", prune_ratio=0.5, private="head"), watch]
            trainer = trainer_of(
                *callbacks[0 if packs else 1 :], strategy="ddp", devices=2, use_distributed_sampler=False
            )
            trainer.fit(modules[packs], loader)
            taken[packs] = median(watch.seconds)
            if packs:
                packnet.abort_task()
        found.append(taken[True] / taken[False])
    print(json.dumps(found[1:]))  # noqa: T201 - read by measure


if __name__ == "__main__":
    _main(*sys.argv[1:])
