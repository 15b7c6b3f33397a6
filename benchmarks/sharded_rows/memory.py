"""The most memory that one process needs for a network of which it never makes more than its own rows."""

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import DeviceMesh

from sharded_rows.calls import Packing
from sharded_rows.networks import Transformer, shard_
from speed_rows.process_memory import held_bytes, peak_bytes, restart_peak

__all__ = ["measure_memory"]

_MB = 1e6


def measure_memory(mesh: DeviceMesh, quick: bool) -> dict[str, list[float]]:
    """Returns name of a call -> the peak during it, and what is held after it: MB beyond an empty process.

    A network is made on the meta device, sharded block by block, and gets values for the rows of each process; two
    tasks are trained, pruned and packed. "weights" is the size of all weights.
    """
    width, depth = (64, 2) if quick else (1024, 6)
    _warm_up(mesh)
    empty, found = held_bytes(), dict[str, list[float]]()

    def of(name: str, call: Callable[[], object]) -> None:
        restart_peak()
        call()
        peak = peak_bytes()
        found[name] = [(peak - empty) / _MB, (held_bytes() - empty) / _MB]
        dist.barrier()

    with torch.device("meta"):
        network = Transformer(width, depth)
    found["weights"] = [4e-6 * sum(p.numel() for p in network.parameters())]
    shard_(network, mesh)
    of("rows of one's own, with values", lambda: _materialize_(network))
    model = Packing(network, ("first", "second"), width)
    packnet = model.packnet
    for task in model.heads:
        of(f"begin_task, {task}", partial(packnet.begin_task, task, private=[f"heads.{task}"]))
        optimizer = torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9)
        of(f"two steps, {task}", partial(_train, model, optimizer))
        of(f"prune, {task}", lambda: packnet.prune(0.75))
        of(f"a step after it, {task}", partial(_train, model, optimizer, 1))
        del optimizer
        of(f"finish_task, {task}", packnet.finish_task)
        of(f"verify, {task}", packnet.verify)
        of(f"state_dict, {task}", lambda: packnet.state_dict() and None)
    with tempfile.TemporaryDirectory() as folder:
        shared = [folder]
        dist.broadcast_object_list(shared)
        of("save_packed", lambda: model.pack(Path(shared[0], "packed.safetensors")))
    return found


def _materialize_(network: nn.Module) -> None:
    network.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(dist.get_rank())
    for parameter in network.parameters():
        rows = parameter.detach()._local_tensor  # type: ignore[attr-defined]
        rows.normal_(0, 0.02, generator=generator) if parameter.dim() > 1 else rows.fill_(1.0)


def _train(model: Packing, optimizer: torch.optim.Optimizer, steps: int = 2) -> None:
    for _ in range(steps):
        model.backbone(torch.randn(1, 4, 48)).square().mean().backward()
        model.packnet.mask_gradients_()
        optimizer.step()
        model.packnet.restore_()
        optimizer.zero_grad()


def _warm_up(mesh: DeviceMesh) -> None:
    """Does all of it once with a network that is large enough for compiled loops: code is no part of the figures."""
    network = shard_(Transformer(512, 3 * mesh.size()), mesh)
    model = Packing(network, ("first",), 512)
    model.packnet.begin_task("first", private=["heads.first"])
    _train(model, torch.optim.SGD(network.parameters(), lr=1e-3, momentum=0.9))
    model.packnet.prune(0.5)
    model.packnet.finish_task()
