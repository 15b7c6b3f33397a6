"""A step of a Lightning fit with PackNetCallback over one without, of networks that are divided among processes."""

import logging
import os
import time
from statistics import median

import pytorch_lightning as pl
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.optim import Optimizer

from packnet_pl import PackNet, PackNetCallback
from packnet_pl.choices import Phase
from packnet_pl.training import ShardedStrategy, shard_
from sharded_rows.networks import batch_for, build_shared
from speed_rows.fits import StepTimes, repeated, trainer_of
from speed_rows.networks import OPTIMIZERS

__all__ = ["OF_FIT", "measure_fit"]

OF_FIT = ("ratio of the thread's seconds", "by the clock")


class _Module(pl.LightningModule):
    """A network alone, which learns to be zero."""

    packnet: PackNet

    def __init__(self, shared: nn.Module, optimizer: str, packs: bool) -> None:
        super().__init__()
        self.shared, self._optimizer = shared, optimizer
        if packs:
            self.packnet = PackNet(shared)

    def configure_model(self) -> None:
        assert self.device_mesh is not None
        shard_(self.shared, self.device_mesh["data_parallel"])

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        return self.shared(batch[0]).square().mean()  # type: ignore[no-any-return]

    def configure_optimizers(self) -> Optimizer:
        return OPTIMIZERS[self._optimizer](self.parameters())


def measure_fit(mesh: DeviceMesh, arch: str, optimizer: str, steps: int, size: int) -> dict[str, list[float]]:
    """Returns "TASK, PHASE" -> :data:`OF_FIT` of two tasks: medians of the steps of one fit of each kind.

    Args:
        mesh: All processes.
        arch: "tiny", "transformer" or "resnet18".
        optimizer: A key of ``OPTIMIZERS``.
        steps: To measure, after five.
        size: Of the batch of each process.
    """
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    os.environ.update(LOCAL_RANK=str(mesh.get_rank()), NODE_RANK="0")  # as Lightning's launcher leaves it
    modules = {packs: _Module(build_shared(arch), optimizer, packs) for packs in (True, False)}
    phases: list[tuple[str, Phase]] = [(task, phase) for task in ("first", "second") for phase in ("train", "retrain")]
    given = batch_for(arch, size)
    loader, found = repeated((given, given), steps + 6), dict[str, list[float]]()
    for task, phase in phases:
        taken = {}
        for packs, module in modules.items():
            watches = [StepTimes(time.thread_time), StepTimes(time.perf_counter)]
            ratio = 0.75 if phase == "train" else None
            ours = [PackNetCallback(task=task, phase=phase, prune_ratio=ratio)] if packs else []
            settings = {"devices": mesh.size(), "use_distributed_sampler": False}
            trainer_of(*ours, *watches, strategy=ShardedStrategy(), **settings).fit(module, loader)
            taken[packs] = [median(watch.seconds) for watch in watches]
            dist.barrier()
        found[f"{task}, {phase}"] = [ours / plain for ours, plain in zip(taken[True], taken[False], strict=True)]
    return found
