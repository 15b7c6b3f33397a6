"""Networks whose weights are shared, turned, made or written in forward, frozen or complex."""

import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.nn.utils import parametrize, prune


class TiedTurned(nn.Module):
    """An autoencoder whose decoder is the encoder's weight, turned."""

    def __init__(self, *, data):
        super().__init__()
        self.encode, self.decode, self.data = nn.Linear(8, 6), nn.Linear(6, 8), data
        if data:
            self.decode.weight.data = self.encode.weight.data.t()

    def forward(self, x):
        x = torch.tanh(self.encode(x))
        return self.decode(x) if self.data else F.linear(x, self.encode.weight.t(), self.decode.bias)


class TiedConvolutions(nn.Module):
    """Two convolutions with one weight, and one layer under two names."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(1, 4, 3), nn.Conv2d(1, 4, 3, stride=2)
        self.second.weight = self.first.weight
        self.fc = self.again = nn.Linear(4, 8)
        self.last = nn.Linear(8, 8)

    def forward(self, x):
        x = torch.tanh(self.first(x)).mean((2, 3)) + torch.tanh(self.second(x)).mean((2, 3))
        return self.last(torch.tanh(self.fc(x) + self.again(-x)))


class Crossed(nn.Module):
    def __init__(self):
        super().__init__()
        self.cross, self.after = nn.Bilinear(8, 8, 6), nn.Linear(6, 8)

    def forward(self, x):
        return self.after(torch.tanh(self.cross(x, x.flip(1))))


class Loose(nn.Module):
    """Parameters that are in no layer."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(1.5))
        self.listed = nn.ParameterList([nn.Parameter(torch.randn(8)), nn.Parameter(torch.randn(8, 8))])
        self.named = nn.ParameterDict({"shift": nn.Parameter(torch.zeros(8))})
        self.empty = nn.Parameter(torch.zeros(0, 8))
        self.fc = nn.Linear(8, 8)

    def forward(self, x):
        x = torch.tanh(self.fc(x) * self.listed[0] + self.named["shift"])
        return self.scale * x @ self.listed[1] + self.empty.sum(0)


class MaxNorm(nn.Linear):
    """Writes a constraint on its weight in each forward pass, as EEGNet does."""

    def forward(self, x):
        self.weight.data = torch.renorm(self.weight.data, p=2, dim=0, maxnorm=0.5)
        return super().forward(x)


class Branches(nn.Module):
    """Takes one of its branches in each forward pass of training, and all of them else."""

    def __init__(self):
        super().__init__()
        self.branches, self.turn = nn.ModuleList(nn.Linear(8, 8) for _ in range(3)), 0
        self.never = nn.Linear(8, 8)

    def forward(self, x):
        if not self.training:
            return sum(branch(x) for branch in self.branches)
        self.turn = (self.turn + 1) % 3
        return self.branches[self.turn](x)


class StackedExperts(nn.Module):
    """As transformers has them since its version 5: the experts' matrices, and biases, are one parameter each."""

    def __init__(self):
        super().__init__()
        self.route = nn.Linear(8, 3)
        self.gate_up_proj = nn.Parameter(0.3 * torch.randn(3, 8, 8))
        self.gate_up_proj_bias = nn.Parameter(torch.zeros(3, 8))

    def forward(self, x):
        made = torch.tanh(torch.einsum("nd,kde->nke", x, self.gate_up_proj) + self.gate_up_proj_bias)
        return (self.route(x).softmax(1)[:, :, None] * made).sum(1)


class MixedKernels(nn.Module):
    """As CondConv: each image has a mix of the kernels, which are the rows of one parameter."""

    def __init__(self):
        super().__init__()
        self.route, self.weight = nn.Linear(8, 3), nn.Parameter(0.3 * torch.randn(3, 64))

    def forward(self, x):
        kernels = (self.route(x).sigmoid() @ self.weight).view(-1, 8, 1)
        return F.conv1d(x.reshape(1, -1, 1), kernels, groups=len(x)).view(len(x), 8)


class Experts(nn.Module):
    """Sends each sample to one expert; some experts get none."""

    def __init__(self):
        super().__init__()
        self.route, self.experts = nn.Linear(8, 4), nn.ModuleList(nn.Linear(8, 8) for _ in range(4))

    def forward(self, x):
        weight, chosen = self.route(x).softmax(1).max(1)
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            rows = chosen == number
            if rows.any():
                out = out.index_put((rows.nonzero()[:, 0],), weight[rows, None] * expert(x[rows]))
        return out


class Fourier(nn.Module):
    """Complex weights, as Fourier neural operators have them."""

    def __init__(self, dtype=torch.complex64):
        super().__init__()
        self.fc, self.modes = nn.Linear(8, 8), nn.Parameter(torch.randn(5, dtype=dtype))

    def forward(self, x):
        return torch.fft.irfft(torch.fft.rfft(self.fc(x)) * self.modes, n=8).to(x.dtype)


class LowRank(nn.Linear):
    """A pretrained layer that stands still, and a small one beside it that learns (LoRA)."""

    def __init__(self):
        super().__init__(8, 8)
        self.weight.requires_grad_(False)
        self.down, self.up = nn.Parameter(torch.randn(2, 8)), nn.Parameter(torch.zeros(8, 2))

    def forward(self, x):
        return super().forward(x) + x @ self.down.t() @ self.up.t()


class Hyper(nn.Module):
    """A network that makes the weights of another one."""

    def __init__(self):
        super().__init__()
        self.make, self.made = nn.Linear(4, 72), nn.Linear(8, 8)
        self.code = nn.Parameter(torch.randn(4))

    def forward(self, x):
        weight, bias = self.make(self.code).split([64, 8])
        weights = {"weight": self.made.weight + weight.view(8, 8), "bias": self.made.bias + bias}
        return torch.func.functional_call(self.made, weights, (x,))


class Slimmable(nn.Linear):
    """Uses a part of its weight in training."""

    def forward(self, x):
        width = 4 if self.training and torch.rand(()) < 0.5 else 8
        return F.pad(F.linear(x, self.weight[:width], self.bias[:width]), (0, 8 - width))


class MaskedConvolution(nn.Conv2d):
    """Writes zeros over a part of its weight in each forward pass, as PixelCNN does."""

    def forward(self, x):
        self.weight.data[:, :, 1:, 1:] = 0
        return super().forward(x)


class Symmetric(nn.Module):
    def forward(self, weight):
        return weight.triu() + weight.triu(1).transpose(-1, -2)


def parametrized(register, *, layer=None):
    """Between two plain layers, one whose weight is computed."""
    return nn.Sequential(nn.Linear(8, 8), nn.Tanh(), register(layer or nn.Linear(8, 8)), nn.Tanh(), nn.Linear(8, 8))


def symmetric(layer):
    parametrize.register_parametrization(layer, "weight", Symmetric())
    return layer


def pruned_by_torch(layer):
    return prune.l1_unstructured(layer, "weight", 0.3)


def unusual_memory(net):
    """Weights that are turned in memory, or a part of a larger one."""
    net[0].weight = nn.Parameter(torch.randn(8, 8).t())
    net[2].weight = nn.Parameter(torch.randn(8, 16)[:, ::2])
    return net
