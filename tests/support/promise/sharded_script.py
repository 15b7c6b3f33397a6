"""Run as several processes: tasks are trained in a loop with a network that ``fully_shard`` has divided among them.

    python -m tests.support.promise.sharded_script FOLDER PROCESSES ROW...

It forks once for each process. After each row, each leaves ``FOLDER/ROW.RANK.pt``.
"""

import os
import sys
import traceback
import warnings
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import multiprocessing, nn, optim
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from packnet_pl import PackNet, PruneRule, load_packed, save_packed
from packnet_pl.core import load_sharded_state, sharded_state_dict, taylor
from packnet_pl.models import TaskInfo
from tests.support.promise.sharded_run import TASKS, ResNet, Run, Transformer, images, same, sharded, whole


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


def mixed_precision():
    return Run(mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)).all_tasks()


def activation_checkpointing():
    return Run(partial(Transformer, checkpoints=True)).all_tasks()


def hybrid():
    """Two groups of two, each with the whole network."""
    mesh = init_device_mesh("cpu", (2, dist.get_world_size() // 2), mesh_dim_names=("replicate", "shard"))
    return Run(mesh=mesh).all_tasks()


def saved(run, optimizer, folder):
    weights, states = get_state_dict(run.net, optimizer)
    dcp.save({"model": weights, "optimizer": states, "packnet": sharded_state_dict(run.packnet)}, checkpoint_id=folder)


def loaded(folder):
    run = Run()
    optimizer = run.make_optimizer(run.net.parameters())
    weights, states = get_state_dict(run.net, optimizer)
    dcp.load({"model": weights, "optimizer": states}, checkpoint_id=folder)
    set_state_dict(run.net, optimizer, model_state_dict=weights, optim_state_dict=states)
    load_sharded_state(run.packnet, folder)
    run.packnet.resume_task()
    return run, optimizer


def to_the_end(run, optimizer):
    run.step("b", optimizer)
    run.prune(0.5)
    run.step("b", optimizer)
    run.packnet.finish_task()
    return {**whole(run.net.state_dict()), **{f"owners.{k}": v for k, v in whole(run.packnet.owners).items()}}


def resumed():
    """Saved in the middle of the second task by all processes, and loaded by new objects."""
    run = Run()
    run.begin("a")
    run.train("a")
    run.prune(0.6)
    run.finish("a")
    run.begin("b")
    optimizer = run.make_optimizer(run.net.parameters())
    run.step("b", optimizer)
    folder = Path("dcp")
    saved(run, optimizer, folder)
    again = loaded(folder)
    uninterrupted, resumed_ = to_the_end(run, optimizer), to_the_end(*again)
    torch.save(run.ask("a"), f"a.{dist.get_rank()}.answer")
    return {**run.notes, **again[0].notes, "resumed is bit-identical": same(uninterrupted, resumed_)}


def on_other_processes():
    """Loads what as many processes as ``SAVED_BY`` names wrote."""
    folder = Path(os.environ["SAVED_BY"], "dcp")
    run, optimizer = loaded(folder)
    net = Transformer()
    dcp.load({"model": net.state_dict()}, checkpoint_id=folder, no_dist=True)
    alone = PackNet(net)
    notes = {"weights are those that were saved": same(net.state_dict(), whole(run.net.state_dict()))}
    load_sharded_state(alone, folder)
    notes["owners are those that were saved"] = same(alone.owners, whole(run.packnet.owners))
    to_the_end(run, optimizer)
    run.packnet.verify()
    return {**notes, **run.notes}


class Model(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone, self.heads = backbone, nn.ModuleDict({task: nn.Linear(2, 3) for task in TASKS})
        self.packnet = PackNet(backbone)


def packed():
    """One file, whose tensors are those that one process writes for the same weights."""
    torch.manual_seed(0)
    model = Model(sharded(Transformer()))
    run = Run()
    run.net, run.packnet = model.backbone, model.packnet
    run.begin = lambda task: run.packnet.begin_task(task, private=[f"heads.{task}"])
    notes = run.all_tasks()
    path = Path("sharded.safetensors")
    infos = {task: TaskInfo(3) for task in TASKS}
    written = save_packed(model, path, infos=infos)
    alone = Model(run.make())
    alone.load_state_dict(whole(model.state_dict()))
    alone.packnet = run.alone()
    alone.packnet.module, alone.backbone = alone.packnet.module, alone.packnet.module
    own = save_packed(alone, f"alone.{dist.get_rank()}.safetensors", infos=infos)
    read = load_packed(path, backbone=Transformer())
    mine = images()[dist.get_rank() :: dist.get_world_size()]
    logits = {task: model.heads[task](run.answers[task]) for task in TASKS}
    with torch.no_grad():
        answers = all(torch.allclose(read(mine, task=task), logits[task], atol=1e-5) for task in TASKS)
    return {
        **notes,
        "the file is one process's": path.read_bytes() == Path(own.path).read_bytes(),
        "all processes know what was written": written.header == own.header,
        "it answers": answers,
    }


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


def raised(error, message, action):
    try:
        action()
    except error as found:
        return message in str(found)
    return False


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
    partly = nn.Sequential(nn.Linear(4, 4), fully_shard(nn.Linear(4, 4), mesh=mesh))
    inner = nn.Linear(4, 4)
    outer = fully_shard(nn.Sequential(inner), mesh=mesh)
    outer(torch.ones(1, 4))
    notes = {
        "filters": raised(ValueError, "single weights", lambda: packnet.prune(0.5, granularity="filter")),
        "scores of whole weights": raised(
            ValueError, "whole weight", lambda: packnet.prune(0.5, rule=PruneRule(score=lambda w: w.abs()))
        ),
        "masks": raised(ValueError, "a learned mask", packnet.learn_mask),
        "learned pruning": raised(ValueError, "learned pruning", lambda: packnet.learn_pruning(0.5)),
        "norms per task": raised(ValueError, "norm='per_task'", begin(Run().net, norm="per_task")),
        "biases per task": raised(ValueError, "bias='per_task'", begin(Run().net, bias="per_task")),
        "weight norm": raised(ValueError, "divides it by its length", begin(fully_shard(parametrized, mesh=mesh))),
        "columns": raised(ValueError, "only rows", begin(columns)),
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


def worker(rank, folder, size, rows):
    os.chdir(folder)
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    dist.init_process_group("gloo", init_method=f"file://{folder}/together", rank=rank, world_size=size)
    for row in rows:
        try:
            left = {"notes": globals()[row](), "error": ""}
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
