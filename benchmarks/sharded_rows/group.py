"""Processes of one group (gloo) on this machine, with one thread each."""

import json
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.multiprocessing.spawn import start_processes

__all__ = ["in_group"]


def in_group(size: int, work: Callable[..., object], *arguments: object) -> list[Any]:
    """Returns what ``work`` returns in each process, as JSON knows it.

    Args:
        size: Number of processes.
        work: Called with the mesh of all processes, and ``arguments``; a function of a module.
        arguments: As they are.
    """
    with tempfile.TemporaryDirectory() as folder:
        given = (folder, size, work, arguments)
        start_processes(_run, given, size, start_method="spawn")  # type: ignore[no-untyped-call]
        return [json.loads(Path(folder, str(rank)).read_text()) for rank in range(size)]


def _run(rank: int, folder: str, size: int, work: Callable[..., object], arguments: tuple[object, ...]) -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    dist.init_process_group("gloo", init_method=f"file://{folder}/together", rank=rank, world_size=size)
    mesh: DeviceMesh = init_device_mesh("cpu", (size,))
    Path(folder, str(rank)).write_text(json.dumps(work(mesh, *arguments)))
    dist.barrier()
    dist.destroy_process_group()
