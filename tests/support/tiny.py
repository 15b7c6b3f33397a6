"""What the tests of the core share: a tiny network, a few steps of training, and snapshots to compare."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

from packnet_pl.core.slots import slots_of

INTEGERS = {1: torch.int8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class TinyNet(nn.Module):
    """Images (N, 1, 6, 6) -> features (N, 6), with one of each kind of state."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 3)
        self.bn = nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.25)
        self.fc = nn.Linear(16, 6)

    def forward(self, x):
        x = F.avg_pool2d(F.leaky_relu(self.bn(self.conv(x))), 2)
        return self.fc(self.drop(x.flatten(1)))


def images(n=8):
    return torch.randn(n, 1, 6, 6)


class RunningCentre(nn.Module):
    """Subtracts a running mean; like many layers of users' own, it replaces its buffer instead of writing into it."""

    def __init__(self, features):
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))

    def forward(self, x):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * x.detach().mean(0)
        return x - self.mean


def boxed(*, unsaved=(), **given):
    """A module with these parameters and buffers alone (``unsaved``: in no state dict), and name -> slot of each."""
    box = nn.Module()
    for name, tensor in given.items():
        if isinstance(tensor, nn.Parameter):
            box.register_parameter(name, tensor)
        else:
            box.register_buffer(name, tensor, persistent=name not in unsaved)
    return box, dict(slots_of(box))


def bits(tensor):
    """The memory of a tensor as integers: tells -0.0 from 0.0, and NaN equals itself."""
    tensor = tensor.detach()
    if tensor.layout != torch.strided:
        tensor = tensor.to_dense()
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor)
    return tensor.clone() if tensor.dtype == torch.bool else tensor.view(INTEGERS[tensor.element_size()]).clone()


def same_bits(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and torch.equal(bits(a), bits(b))


def tensors(module):
    return {name: bits(tensor) for name, tensor in module.state_dict().items()}


def equal(left, right):
    """Equality of nested dicts, lists, tensors and primitives, with the order of dicts."""
    if isinstance(left, torch.Tensor):
        return isinstance(right, torch.Tensor) and left.dtype == right.dtype and torch.equal(left, right)
    if isinstance(left, dict):
        return list(left) == list(right) and all(equal(left[key], right[key]) for key in left)
    return left == right


def snapshot(packnet):
    """All that a refused call must leave alone."""
    return {
        "tasks": packnet.tasks,
        "open_task": packnet.open_task,
        "phase": packnet.phase,
        "private": packnet.private,
        "owners": packnet.owners,
        "tensors": tensors(packnet.module),
        "training": [layer.training for layer in packnet.module.modules()],
        "hooks": count_hooks(packnet.module),
    }


def count_hooks(module):
    kinds = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return sum(len(getattr(layer, kind)) for layer in module.modules() for kind in kinds)


def train(packnet, steps=3, lr=0.1, optimizer=None):
    """Trains the module towards random targets, as a loop of the user's own would."""
    module = packnet.module
    optimizer = optimizer or torch.optim.SGD(module.parameters(), lr=lr, momentum=0.9, weight_decay=5e-3)
    module.train()
    for _ in range(steps):
        x = images()
        optimizer.zero_grad()
        out = module(x)
        F.mse_loss(out, torch.randn_like(out)).backward()
        packnet.mask_gradients_()
        optimizer.step()
        packnet.restore_()


def pack(packnet, task, ratio=0.5, steps=3, **kwargs):
    """Takes a task from begin to finish."""
    packnet.begin_task(task)
    train(packnet, steps)
    if ratio is not None:
        packnet.prune(ratio, **kwargs)
        train(packnet, steps)
    packnet.finish_task()


def plain_choice(values, eligible, count):
    """Flat indices of the ``count`` smallest magnitudes among the eligible ones, by a plain sort."""
    ranked = sorted(
        (abs(value), index) for index, (value, mine) in enumerate(zip(values, eligible, strict=True)) if mine
    )
    return {index for _, index in ranked[:count]}


def marked(mask):
    """Flat (row-major) indices where a mask is True."""
    return {index for index, flag in enumerate(mask.reshape(-1).tolist()) if flag}
