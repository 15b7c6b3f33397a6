"""A small network that ``fully_shard`` divides among processes, three tasks in a loop, and one process beside it."""

from functools import partial

import torch
import torch.distributed as dist
from torch import nn, optim
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.utils.checkpoint import checkpoint

from packnet_pl import PackNet, PruneRule

TASKS = {"a": 0.6, "b": 0.5, "c": 0.25}
TARGETS = {"a": 1.0, "b": -1.0, "c": 0.5}


class Block(nn.Module):
    """Of a transformer; its 7 hidden features, and all others, do not divide evenly."""

    def __init__(self, width=6):
        super().__init__()
        self.norm, self.attention = nn.LayerNorm(width), nn.MultiheadAttention(width, 2, batch_first=True)
        self.up, self.down = nn.Linear(width, 7), nn.Linear(7, width)

    def forward(self, x):
        h = self.norm(x)
        x = x + self.attention(h, h, h, need_weights=False)[0]
        return x + self.down(torch.tanh(self.up(x)))


class Transformer(nn.Module):
    def __init__(self, checkpoints=False):
        super().__init__()
        self.embed, self.blocks, self.out = nn.Linear(8, 6), nn.ModuleList([Block(), Block()]), nn.Linear(6, 2)
        self.checkpoints = checkpoints

    def forward(self, x):
        x = self.embed(x.unflatten(1, (-1, 8)))
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.checkpoints else block(x)
        return self.out(x).mean(1)


class Residual(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.first, self.second = (nn.Conv2d(channels, channels, 3, padding=1, bias=False) for _ in range(2))
        self.norm, self.last = nn.BatchNorm2d(channels), nn.BatchNorm2d(channels)

    def forward(self, x):
        return torch.relu(x + self.last(self.second(torch.relu(self.norm(self.first(x))))))


class ResNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem, self.blocks = nn.Conv2d(1, 5, 3), nn.ModuleList([Residual(5), Residual(5)])
        self.out = nn.Linear(5, 2)

    def forward(self, x):
        x = torch.relu(self.stem(x.unflatten(1, (1, 4, 8))))
        for block in self.blocks:
            x = block(x)
        return self.out(x.mean((2, 3)))


def images():
    return torch.randn(12, 32, generator=torch.Generator().manual_seed(1))


def whole(state):
    """The tensors of all processes together."""
    return gathered(dict(state))


def gathered(value):
    """A copy of a state, with the tensors of all processes together."""
    if isinstance(value, dict):
        return {key: gathered(part) for key, part in value.items()}
    if isinstance(value, torch.Tensor):
        return (value.full_tensor() if isinstance(value, DTensor) else value).detach().clone()
    return value


def same(left, right):
    return left.keys() == right.keys() and all(
        left[k].dtype == right[k].dtype and torch.equal(left[k], right[k]) for k in left
    )


def raised(error, message, action):
    try:
        action()
    except error as found:
        return message in str(found)
    return False


def sharded(net, mesh=None, **settings):
    mesh = mesh or init_device_mesh("cpu", (dist.get_world_size(),))
    for block in net.blocks:
        fully_shard(block, mesh=mesh, **settings)
    return fully_shard(net, mesh=mesh, **settings)


class Run:
    """Three tasks in a loop, and what must hold after each step of their life."""

    def __init__(self, make=Transformer, make_optimizer=None, rule=None, of_packnet=None, **settings):
        torch.manual_seed(0)
        self.make, self.rule = make, rule or PruneRule()
        self.net = self.divide(make(), **settings)
        self.of_packnet = of_packnet or {}
        self.packnet = PackNet(self.net, **self.of_packnet)
        self.make_optimizer = make_optimizer or partial(optim.AdamW, lr=0.03, weight_decay=0.1)
        self.private, self.answers, self.notes = lambda _: (), {}, {}

    def divide(self, net, **settings):
        return sharded(net, **settings)

    def mine(self):
        """The images of this process."""
        return images()[dist.get_rank() :: dist.get_world_size()]

    def check(self, what, holds):
        self.notes[what] = self.notes.get(what, True) and bool(holds)

    def alone(self):
        """What one process has with the same weights and owners, and by the same rule."""
        net = self.make()
        net.load_state_dict(whole(self.net.state_dict()))
        return PackNet.from_state(net, gathered(self.packnet.state_dict()))

    def loss_backward(self, task, x):
        with self.packnet.masked():
            (self.net(x).float() - TARGETS[task] * x[:, :2]).square().mean().backward()

    def step(self, task, optimizer):
        x = self.mine()
        self.loss_backward(task, x)
        if self.rule.gradient_score is not None:
            self.packnet.accumulate_(self.rule.gradient_score)
        self.packnet.mask_gradients_()
        optimizer.step()
        self.packnet.restore_()
        optimizer.zero_grad()

    def train(self, task, steps=2):
        self.net.train()
        optimizer = self.make_optimizer(self.net.parameters())
        for _ in range(steps):
            self.step(task, optimizer)

    def ask(self, task):
        self.net.eval()
        with torch.no_grad(), self.packnet.subnetwork(task):
            return self.net(self.mine())

    def prune(self, ratio):
        alone = self.alone()
        for packnet in (alone, self.packnet):
            packnet.prune(ratio, rule=self.rule)
        self.check("owners are one process's", same(alone.owners, whole(self.packnet.owners)))
        self.check("weights are one process's", same(alone.module.state_dict(), whole(self.net.state_dict())))

    def begin(self, task):
        self.packnet.begin_task(task, private=self.private(task))

    def resume(self):
        self.packnet.resume_task()

    def finish(self, task):
        self.packnet.finish_task()
        self.answers[task] = self.ask(task)
        self.packnet.verify()
        self.alone().verify()  # the fingerprints are those of the whole
        for earlier, answer in self.answers.items():
            self.check("old outputs are what they were", torch.equal(self.ask(earlier), answer))

    def all_tasks(self):
        for task, ratio in TASKS.items():
            self.begin(task)
            self.train(task)
            self.prune(ratio)
            self.train(task)
            self.finish(task)
        owned = self.packnet.summary().total.owned
        self.check("all tasks own weights", min(owned.values()) > 0)
        return self.notes
