"""Networks with buffers of all sorts, and with a state of their own."""

from copy import deepcopy

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn


class Codebook(nn.Module):
    """A VQ-VAE whose codes are moving averages, put in place as new parameters in each forward pass."""

    def __init__(self):
        super().__init__()
        self.encode, self.codes, self.decode = nn.Linear(8, 4), nn.Embedding(6, 4), nn.Linear(4, 8)
        self.sums = nn.Parameter(torch.randn(6, 4))
        self.register_buffer("sizes", torch.ones(6))

    def forward(self, x):
        x = self.encode(x)
        chosen = F.one_hot(torch.cdist(x, self.codes.weight).argmin(1), 6).float()
        nearest = chosen @ self.codes.weight
        if self.training:
            self.sizes = 0.9 * self.sizes + 0.1 * chosen.sum(0)
            self.sums = nn.Parameter(0.9 * self.sums + 0.1 * chosen.t() @ x)
            self.codes.weight = nn.Parameter(self.sums / (self.sizes.unsqueeze(1) + 1e-5))
        return self.decode(x + (nearest - x).detach())


class Buffers(nn.Module):
    """Buffers of all sorts, which do not change."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 8)
        self.register_buffer("expanded", torch.ones(1).expand(8))
        self.register_buffer("mask", torch.tensor([True, False] * 4))
        self.register_buffer("order", torch.randperm(8))
        self.register_buffer("empty", torch.zeros(0))
        self.register_buffer("none", None)
        self.register_buffer("short", torch.randn(8, dtype=torch.bfloat16))
        self.register_buffer("view", self.short[:4])

    def forward(self, x):
        x = self.fc(x)[:, self.order] * self.expanded
        return torch.where(self.mask, x, -x) + self.short.to(x.dtype)


class Graph(nn.Module):
    """A graph network: a sparse adjacency matrix as a buffer."""

    def __init__(self, **settings):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(3, 8), nn.Linear(8, 8)
        self.register_buffer("adjacency", (torch.rand(8, 8) > 0.5).float().to_sparse(), **settings)

    def forward(self, x):
        nodes = torch.stack([x, x**2, x.sin()], 2)
        hidden = torch.tanh(self.fc1(nodes))
        mixed = torch.stack([torch.sparse.mm(self.adjacency, each) for each in hidden])
        return self.fc2(mixed).mean(1)


class Teacher(nn.Module):
    """A student, and a teacher that follows it slowly in each forward pass of training."""

    def __init__(self):
        super().__init__()
        self.student = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 8))
        self.teacher = deepcopy(self.student).requires_grad_(False)

    def forward(self, x):
        if self.training:
            with torch.no_grad():
                for slow, fast in zip(self.teacher.parameters(), self.student.parameters(), strict=True):
                    slow.lerp_(fast, 0.1)
        return self.student(x) + self.teacher(x)


class Noisy(nn.Linear):
    """Draws noise into a buffer in each forward pass of training."""

    def __init__(self):
        super().__init__(8, 8)
        self.register_buffer("noise", torch.zeros(8, 8))

    def forward(self, x):
        if self.training:
            self.noise.normal_()
        return F.linear(x, self.weight + 0.1 * self.noise, self.bias)


class ExtraState(nn.Linear):
    """Puts something into the state dict that is no tensor."""

    def get_extra_state(self):
        return {"words": ["a", "b"]}

    def set_extra_state(self, state):
        assert state == {"words": ["a", "b"]}


class OwnStateDict(nn.Module):
    """Leaves a large pretrained part out of its state dict, and renames the rest."""

    def __init__(self):
        super().__init__()
        self.frozen = nn.Linear(8, 8).requires_grad_(False)
        self.net = nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8), nn.Linear(8, 8))
        self.net._register_state_dict_hook(_renamed)

    def forward(self, x):
        return self.net(self.frozen(x))

    def state_dict(self, *args, **kwargs):
        return {name: value for name, value in super().state_dict(*args, **kwargs).items() if "frozen" not in name}


def _renamed(module, state, prefix, _):
    for name in list(state):
        if name.startswith(prefix):
            state[prefix + "v2_" + name.removeprefix(prefix)] = state.pop(name)


class Queue(nn.Module):
    """Keeps what it saw last in a queue, as MoCo does."""

    def __init__(self):
        super().__init__()
        self.fc1, self.fc2 = nn.Linear(8, 8), nn.Linear(8, 8)
        self.register_buffer("queue", torch.zeros(16, 8))
        self.register_buffer("place", torch.zeros(1, dtype=torch.int64))

    def forward(self, x):
        x = torch.tanh(self.fc1(x))
        if self.training:
            place = int(self.place)
            self.queue[place : place + 4] = x.detach()[:4]
            self.place[0] = (place + 4) % 16
        return self.fc2(x + self.queue.mean(0))


class ActNorm(nn.Module):
    """Takes its first values from the first batch, as flows do."""

    def __init__(self):
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(8)), nn.Parameter(torch.zeros(8))
        self.register_buffer("ready", torch.tensor(0, dtype=torch.uint8))

    def forward(self, x):
        if not self.ready:
            self.scale.data, self.shift.data = 1 / x.detach().std(0), -x.detach().mean(0)
            self.ready.fill_(1)
        return (x + self.shift) * self.scale
