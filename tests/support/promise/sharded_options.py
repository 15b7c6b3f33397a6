"""What tasks may be given beyond the paper, in a network that ``fully_shard`` divides among processes."""

from functools import partial

import torch
import torch.distributed as dist
from torch import nn, optim

from packnet_pl import LearnedMask, PruneRule
from packnet_pl.core import taylor
from tests.support.promise import sharded_files
from tests.support.promise.sharded_run import TASKS, ResNet, Run, Transformer, gathered, images, raised, same, whole

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


def equal(left, right):
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    return torch.equal(left, right) if isinstance(left, torch.Tensor) else left == right


class Masks(Run):
    """Each task after the first learns which weights of the earlier ones it uses."""

    learned = LearnedMask(lr=0.7)

    def begin(self, task):
        super().begin(task)
        self.packnet.learn_mask(self.learned)

    def resume(self):
        super().resume()
        self.packnet.learn_mask(self.learned)

    def step(self, task, optimizer):
        learns = bool(self.packnet.mask_scores)
        alone = self.alone() if learns else None
        mask_gradients_ = self.packnet.mask_gradients_

        def taken_():
            for name, parameter in alone.module.named_parameters():
                parameter.grad = gathered(self.net.get_parameter(name).grad)
            mask_gradients_()

        self.packnet.mask_gradients_ = taken_ if learns else mask_gradients_
        super().step(task, optimizer)
        self.packnet.mask_gradients_ = mask_gradients_
        if learns:
            alone.resume_task()
            alone.learn_mask(self.learned)
            alone.mask_gradients_()
            alone.restore_()
            theirs, mine = alone.mask_scores, whole(self.packnet.mask_scores)
            self.check("scores are one process's", same(theirs, mine))

    def prune(self, ratio):
        before = gathered(self.packnet.state_dict())
        self.packnet.load_state_dict(self.alone().state_dict())
        self.resume()
        self.check("the state of one process is taken", equal(gathered(self.packnet.state_dict()), before))
        if self.packnet.tasks:
            self.look()
        super().prune(ratio)
        found, alone = gathered(self.packnet.unused), self.alone().unused
        self.check("masks are one process's", found.keys() == alone.keys())
        self.check("masks are one process's", all(same(alone[task], found[task]) for task in found))
        number = len(self.packnet.tasks)
        self.check("each later task leaves weights unused", len(found) == number and all(found.values()))

    def look(self):
        """Forward passes without a backward pass leave layers gathered: as they were shown."""
        with torch.no_grad():
            before = self.net(images())
            with self.packnet.masked():
                shown = self.net(images())
            self.check("after a look, all is as before", torch.equal(self.net(images()), before))
        self.check("what is not used does not count", not torch.equal(shown, before))


def masks():
    return sharded_files.packed(Masks(), "masks")


def masks_resumed():
    return sharded_files.resumed(Masks, "masks")


def masks_on_other_processes():
    return sharded_files.on_other_processes(Masks, "masks")


class LearnedPruning(Run):
    """Computes with the best weights alone, from the first step on."""

    def begin(self, task):
        super().begin(task)
        self.packnet.learn_pruning(TASKS[task], rule=self.rule)

    def step(self, task, optimizer):
        hidden = self.packnet.mask.pruning is not None
        alone = self.alone() if hidden else None
        if hidden:
            alone.learn_pruning(TASKS[task], rule=self.rule)
            with self.packnet.masked(), alone.masked():
                shown = {name: gathered(tensor).clone() for name, tensor in self.net.state_dict().items()}
                self.check("what is shown is one process's", same(shown, alone.module.state_dict()))
        super().step(task, optimizer)


def learned_pruning():
    return LearnedPruning(rule=PruneRule(schedule="learned")).all_tasks()
