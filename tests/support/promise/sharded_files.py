"""Checkpoints and packed files that processes write of what is divided among them."""

import os
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import nn
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict

from packnet_pl import PackNet, load_packed, save_packed
from packnet_pl.core import load_sharded_state, sharded_state_dict
from packnet_pl.models import TaskInfo
from tests.support.promise.sharded_run import TASKS, images, same, whole


def saved(run, optimizer, folder):
    weights, states = get_state_dict(run.net, optimizer)
    dcp.save({"model": weights, "optimizer": states, "packnet": sharded_state_dict(run.packnet)}, checkpoint_id=folder)


def loaded(run, folder):
    optimizer = run.make_optimizer(run.net.parameters())
    weights, states = get_state_dict(run.net, optimizer)
    dcp.load({"model": weights, "optimizer": states}, checkpoint_id=folder)
    set_state_dict(run.net, optimizer, model_state_dict=weights, optim_state_dict=states)
    load_sharded_state(run.packnet, folder)
    run.resume()
    return optimizer


def to_the_end(run, optimizer):
    run.step("b", optimizer)
    run.prune(0.5)
    run.step("b", optimizer)
    run.finish("b")
    unused = {f"unused.{task}.{k}": v for task, mask in run.packnet.unused.items() for k, v in whole(mask).items()}
    return {
        **whole(run.net.state_dict()),
        **{f"owners.{k}": v for k, v in whole(run.packnet.owners).items()},
        **unused,
    }


def resumed(make_run, name):
    """Saved in the middle of the second task by all processes, and loaded by new objects.

    Args:
        make_run: Returns a run.
        name: Of the folder.
    """
    run, again, folder = make_run(), make_run(), Path(name)
    run.begin("a")
    run.train("a")
    run.prune(0.6)
    run.finish("a")
    run.begin("b")
    optimizer = run.make_optimizer(run.net.parameters())
    run.step("b", optimizer)
    saved(run, optimizer, folder)
    uninterrupted, resumed_ = to_the_end(run, optimizer), to_the_end(again, loaded(again, folder))
    return {**run.notes, **again.notes, "resumed is bit-identical": same(uninterrupted, resumed_)}


def on_other_processes(make_run, name):
    """Loads what as many processes as ``SAVED_BY`` names wrote, and with one process too."""
    folder, run = Path(os.environ["SAVED_BY"], name), make_run()
    optimizer = loaded(run, folder)
    net = run.make()
    dcp.load({"model": net.state_dict()}, checkpoint_id=folder, no_dist=True)
    alone = PackNet(net, **run.of_packnet)
    notes = {"weights are those that were saved": same(net.state_dict(), whole(run.net.state_dict()))}
    load_sharded_state(alone, folder)
    alone.verify()
    notes["owners are those that were saved"] = same(alone.owners, whole(run.packnet.owners))
    to_the_end(run, optimizer)
    run.packnet.verify()
    return {**notes, **run.notes}


class Model(nn.Module):
    def __init__(self, run):
        super().__init__()
        self.backbone, self.packnet = run.net, run.packnet
        self.heads = nn.ModuleDict({task: nn.Linear(2, 3) for task in TASKS})


def packed(run, name):
    """One file, whose tensors are those that one process writes for the same weights.

    Args:
        run: New, to be trained.
        name: Of the file.
    """
    model = Model(run)
    run.private = lambda task: [f"heads.{task}"]
    notes = run.all_tasks()
    infos = {task: TaskInfo(3) for task in TASKS}
    path = Path(f"{name}.safetensors")
    written = save_packed(model, path, infos=infos)
    alone = Model(run)
    alone.heads.load_state_dict(model.heads.state_dict())
    alone.packnet = run.alone()
    alone.backbone = alone.packnet.module
    own = save_packed(alone, f"{name}.{dist.get_rank()}.safetensors", infos=infos)
    read = load_packed(path, backbone=run.make())
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
