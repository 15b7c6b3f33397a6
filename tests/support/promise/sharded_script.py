"""Run as several processes: tasks are trained in a loop with a network that ``fully_shard`` has divided among them.

    python -m tests.support.promise.sharded_script FOLDER PROCESSES ROW...

It forks once for each process. After each row, each leaves ``FOLDER/ROW.RANK.pt``.
"""

import os
import sys
import traceback
import warnings
from functools import partial

import torch
import torch.distributed as dist
from torch import multiprocessing, nn, optim
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor
from torch.distributed.tensor.parallel import RowwiseParallel, parallelize_module

from packnet_pl import PackNet, PruneRule
from packnet_pl.core import taylor
from tests.support.promise import sharded_files, sharded_large, sharded_options, sharded_settings
from tests.support.promise.sharded_run import ResNet, Run, Transformer, images, raised, same, sharded, whole


def transformer():
    return Run().all_tasks()


def resnet():
    run = Run(ResNet, partial(optim.SGD, lr=0.03, momentum=0.9, weight_decay=0.01))
    notes = run.all_tasks()
    found = [torch.empty_like(run.net.blocks[0].norm.running_mean) for _ in range(dist.get_world_size())]
    dist.all_gather(found, run.net.blocks[0].norm.running_mean)
    return {**notes, "statistics are the same everywhere": all(torch.equal(found[0], other) for other in found)}


def pruned_globally():
    return Run(rule=PruneRule(scope="global")).all_tasks()


def pruned_by_gradients():
    return Run(rule=PruneRule(score=taylor)).all_tasks()


def hybrid():
    """Two groups of two, each with the whole network."""
    mesh = init_device_mesh("cpu", (2, dist.get_world_size() // 2), mesh_dim_names=("replicate", "shard"))
    return Run(mesh=mesh).all_tasks()


def hybrid_masks():
    mesh = init_device_mesh("cpu", (2, dist.get_world_size() // 2), mesh_dim_names=("replicate", "shard"))
    return sharded_options.Masks(mesh=mesh).all_tasks()


def resumed():
    return sharded_files.resumed(Run, "dcp")


def on_other_processes():
    return sharded_files.on_other_processes(Run, "dcp")


def packed():
    return sharded_files.packed(Run(), "sharded")


def meta_start():
    """No process ever has the whole network: it is made without memory, sharded, and then gets its values."""
    with torch.device("meta"):
        net = Transformer()
    sharded(net)
    net.to_empty(device="cpu")
    for index, parameter in enumerate(net.parameters()):
        part = parameter.to_local()
        with torch.no_grad():
            part.copy_(torch.linspace(-1, 1, part.numel()).reshape(part.shape) / (index + 1))
    run = Run()
    run.net, run.packnet = net, PackNet(net)
    return run.all_tasks()


def changed_from_outside():
    """In the rows of the last process only; all of them say so."""
    run = Run()
    run.begin("a")
    run.train("a")
    run.finish("a")
    if dist.get_rank() == dist.get_world_size() - 1:
        with torch.no_grad():
            run.net.embed.weight.to_local()[-1, 0] += 1
    noticed = raised(RuntimeError, "embed.weight is not what it was", run.packnet.verify)
    return {**run.notes, "noticed everywhere": noticed}


def buffer_changed():
    """In the last process only, which has statistics of its own; all of them say so."""
    run = Run(ResNet)
    run.begin("a")
    run.train("a")
    run.finish("a")
    if dist.get_rank() == dist.get_world_size() - 1:
        run.net.blocks[0].norm.running_mean.add_(1)
    noticed = raised(RuntimeError, "blocks.0.norm.running_mean is not what it was", run.packnet.verify)
    return {**run.notes, "noticed everywhere": noticed}


def score_overflows():
    """Of weights of one process, and all refuse."""
    run = Run(rule=PruneRule(score=taylor))
    run.begin("a")
    run.train("a")
    if dist.get_rank() == 0:
        run.packnet.state.accumulators.sums["embed.weight"][0, 0] = torch.inf
    refused = raised(ValueError, "score of embed.weight holds", lambda: run.packnet.prune(0.5, rule=run.rule))
    return {"pruning": refused}


def diverged():
    """One process has a NaN, and all refuse."""
    run = Run()
    run.begin("a")
    if dist.get_rank() == 0:
        with torch.no_grad():
            run.net.embed.weight.to_local()[0, 0] = torch.nan
    return {
        "pruning": raised(ValueError, "embed.weight holds NaN", lambda: run.packnet.prune(0.5)),
        "finishing": raised(ValueError, "embed.weight holds NaN", run.packnet.finish_task),
    }


def no_room():
    run = Run()
    run.begin("a")
    run.packnet.finish_task()
    return {"said everywhere": raised(RuntimeError, "no weight is free", lambda: run.packnet.begin_task("b"))}


def refused():
    """What is not supported, or cannot be, says so in all processes, and changes nothing."""
    run, packnet = Run(), None
    packnet = run.packnet
    packnet.begin_task("a")
    run.train("a")
    owners = whole(packnet.owners)
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))

    def begin(net, **settings):
        return lambda: PackNet(net, **settings).begin_task("a")

    parametrized = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)))
    columns = fully_shard(nn.Linear(4, 4), mesh=mesh, shard_placement_fn=lambda p: _columns(p))
    rowwise = parallelize_module(nn.Sequential(nn.Linear(4, 4)), mesh, {"0": RowwiseParallel()})
    partly = nn.Sequential(nn.Linear(4, 4), fully_shard(nn.Linear(4, 4), mesh=mesh))
    inner = nn.Linear(4, 4)
    outer = fully_shard(nn.Sequential(inner), mesh=mesh)
    outer(torch.ones(1, 4))
    notes = {
        "filters": raised(ValueError, "single weights", lambda: packnet.prune(0.5, granularity="filter")),
        "scores of whole weights": raised(
            ValueError, "whole weight", lambda: packnet.prune(0.5, rule=PruneRule(score=lambda w: w.abs()))
        ),
        "weight norm": raised(ValueError, "divides it by its length", begin(fully_shard(parametrized, mesh=mesh))),
        "columns": raised(ValueError, "only rows", begin(columns)),
        "tensor parallelism by columns": raised(ValueError, "only rows", begin(rowwise)),
        "a layer that is not sharded": raised(ValueError, "each process has the whole", begin(partly)),
        "a gathered layer": raised(ValueError, "call reshard()", begin(inner)),
        "nothing changed": same(owners, whole(packnet.owners)),
    }
    run.packnet.finish_task()
    grown = raised(ValueError, "a wider network", lambda: packnet.grow(Transformer(), example=images()))
    return {**notes, "growing": grown}


def _columns(parameter):
    from torch.distributed.tensor import Shard

    return Shard(parameter.dim() - 1)


def gathered_between():
    """Forward passes without a backward pass leave the outermost layers gathered; PackNet takes their rows."""
    run = Run()
    run.begin("a")
    run.train("a")
    gathered = []

    def ask():
        run.net.eval()
        with torch.no_grad():
            run.net(images())
        gathered.append(not isinstance(run.net.embed.weight, DTensor))

    ask()
    run.prune(0.6)
    ask()
    run.finish("a")
    ask()
    run.begin("b")
    run.train("b")
    ask()
    run.packnet.verify()
    assert isinstance(run.net, FSDPModule)
    return {**run.notes, "gathered each time": all(gathered)}


ROWS = {**vars(sharded_options), **vars(sharded_large), **vars(sharded_settings), **globals()}


def worker(rank, folder, size, rows):
    os.chdir(folder)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    dist.init_process_group("gloo", init_method=f"file://{folder}/together", rank=rank, world_size=size)
    for row in rows:
        try:
            left = {"notes": ROWS[row](), "error": ""}
        except Exception:
            left = {"notes": {}, "error": traceback.format_exc()}
        torch.save(left, f"{row}.{rank}.pt")
        if left["error"]:
            break  # the others may be waiting for it
    dist.destroy_process_group()


def main():
    folder, size, *rows = sys.argv[1:]
    torch.set_num_threads(1)
    multiprocessing.start_processes(worker, (folder, int(size), rows), int(size), start_method="fork")


if __name__ == "__main__":
    main()
