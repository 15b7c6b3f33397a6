"""What tasks may be given beyond the paper, in a network that ``fully_shard`` divides among processes."""

from functools import partial

import torch.distributed as dist
from torch import nn, optim

from packnet_pl import PruneRule
from packnet_pl.core import taylor
from tests.support.promise import sharded_files
from tests.support.promise.sharded_run import ResNet, Run, Transformer, raised, whole

OWN = {"norm": "per_task", "bias": "per_task"}
SGD = partial(optim.SGD, lr=0.03, momentum=0.9, weight_decay=0.01)


def own_values():
    """Of norms, with statistics, and of biases; packed."""
    return sharded_files.packed(Run(ResNet, SGD, of_packnet=OWN), "own")


def own_values_resumed():
    return sharded_files.resumed(partial(Run, of_packnet=OWN), "own")


def own_values_on_other_processes():
    return sharded_files.on_other_processes(partial(Run, of_packnet=OWN), "own")


def own_value_changed():
    """In the copy of the last process only; all of them say so."""
    run = Run(of_packnet=OWN)
    run.begin("a")
    run.train("a")
    run.finish("a")
    if dist.get_rank() == dist.get_world_size() - 1:
        run.packnet.state.copies["a"]["embed.bias"][-1] += 1
    return {"noticed everywhere": raised(RuntimeError, "embed.bias is not what it was", run.packnet.verify)}


class Gradual(Run):
    """Pruned in three parts, by gradients in the last two."""

    def prune(self, ratio):
        for share in (ratio / 4, ratio / 2):
            super().prune(share)
            self.train(self.packnet.open_task)
        super().prune(ratio)


def gradual():
    return Gradual(rule=PruneRule(schedule="gradual", score=taylor)).all_tasks()


class Words(Transformer):
    """Looks up rows of a table, of which most are never looked up."""

    def __init__(self):
        super().__init__()
        self.words = nn.Embedding(13, 8)

    def forward(self, x):
        return super().forward(self.words((x[:, ::8].abs() * 20).long() % 9).flatten(1) + x)


def tables():
    run = Run(Words, of_packnet={"prunable": "all"})
    run.begin("a")
    run.train("a")
    run.prune(0.5)
    run.check("rows that were not looked up go first", (whole(run.packnet.owners)["words.weight"][9:] == 0).all())
    run.finish("a")
    run.begin("b")
    run.train("b")
    run.prune(0.5)
    run.finish("b")
    return run.notes
