"""What the calls of a task's life take for each weight: sharded, and whole in one process beside it."""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh

from packnet_pl import PackNet, save_packed
from packnet_pl.models import TaskInfo
from sharded_rows.networks import Transformer, shard_
from speed_rows.networks import abs_pass

__all__ = ["Packing", "measure_calls"]

TASKS = ("first", "second")


class Packing(nn.Module):
    """A shared part with the heads of its tasks, to be packed."""

    def __init__(self, shared: nn.Module, tasks: tuple[str, ...], features: int) -> None:
        super().__init__()
        self.backbone, self.heads = shared, nn.ModuleDict({task: nn.Linear(features, 4) for task in tasks})
        self.packnet = PackNet(shared)

    def pack(self, path: Path) -> None:
        """Writes all tasks to one file."""
        save_packed(self, path, infos={task: TaskInfo(4) for task in self.heads})


def measure_calls(mesh: DeviceMesh, quick: bool) -> dict[str, list[float]]:
    """Returns "CALL, TASK" -> ns by the thread's time and by the clock, sharded and whole; of the second life.

    For each weight that a process has. In the first life loops are compiled. All processes do the whole, too, each for
    itself. The first row is ``abs().clone()`` of all weights.
    """
    width, depth = (64, 2) if quick else (512, 6)
    found: dict[str, list[float]] = {}
    for _ in range(2):
        sharded = _life(Packing(shard_(Transformer(width, depth), mesh), TASKS, width), is_sharded=True)
        whole = _life(Packing(Transformer(width, depth), TASKS, width), is_sharded=False)
        found = {name: [*sharded[name], *whole[name]] for name in sharded}
    return found


def _life(model: Packing, is_sharded: bool) -> dict[str, tuple[float, float]]:
    packnet, found = model.packnet, dict[str, tuple[float, float]]()
    weights = [
        (p._local_tensor if is_sharded else p).detach()  # type: ignore[attr-defined]
        for p in model.backbone.parameters()
        if p.dim() > 1
    ]
    count = sum(weight.numel() for weight in weights)
    for task in TASKS:

        def of(name: str, call: Callable[[], object], task: str = task) -> None:
            dist.barrier()
            thread, clock = _timed(call)
            found[f"{name}, {task}"] = (1e9 * thread / count, 1e9 * clock / count)

        def begin(task: str = task) -> None:
            packnet.begin_task(task, private=[f"heads.{task}"])

        def show(task: str = task) -> None:
            with packnet.subnetwork(task):
                pass

        of("abs().clone()", lambda: abs_pass(weights))
        of("begin_task", begin)
        of("prune", lambda: packnet.prune(0.75))
        of("finish_task", packnet.finish_task)
        of("verify", packnet.verify)
        of("subnetwork", show)
        of("state_dict", packnet.state_dict)
    with tempfile.TemporaryDirectory() as folder:
        shared = [folder]
        if is_sharded:
            dist.broadcast_object_list(shared)
        of("save_packed", lambda: model.pack(Path(shared[0], "packed.safetensors")))
        dist.barrier()
    return found


def _timed(call: Callable[[], object]) -> tuple[float, float]:
    thread, clock = time.thread_time(), time.perf_counter()
    call()
    return time.thread_time() - thread, time.perf_counter() - clock
