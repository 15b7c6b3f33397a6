"""Networks as people have them, each as tiny as it can be: name -> (the shared part, what it takes, how it is read)."""

from copy import deepcopy

import pytorch_lightning as pl
import timm
import torch
import torch.nn.functional as F  # noqa: N812
from timm.layers import ScaledStdConv2d
from torch import nn
from torch.ao.quantization import fuse_modules_qat, get_default_qat_qconfig, prepare_qat, quantize_dynamic
from torch.nn.utils import parametrizations, parametrize, prune
from torch.nn.utils.rnn import pack_padded_sequence
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.models.mobilenetv3 import MobileNetV3, _mobilenet_v3_conf
from torchvision.models.segmentation.lraspp import _lraspp_mobilenetv3

from tests.support.promise.user_modules import images, sequences, tokens, vectors

VOCABULARY = 20


def given(n):
    """Sequences of tokens of different lengths, padded with 0."""
    (found,) = tokens(6, VOCABULARY)(n)
    return [found.masked_fill(torch.arange(6) >= torch.randint(2, 7, (n, 1)), 0)]


class TextClassifier(nn.Module):
    """Embedding and a transformer encoder, which leaves padding out: eval mode takes torch's fast path."""

    def __init__(self, **embedding):
        super().__init__()
        self.embed = nn.Embedding(VOCABULARY, 8, padding_idx=0, **embedding)
        layer = nn.TransformerEncoderLayer(8, 2, 12, batch_first=True, dropout=0.1)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=True)

    def forward(self, x):
        padding = x == 0
        x = self.encoder(self.embed(x), src_key_padding_mask=padding)
        return x[:, 0]


class Attention(nn.Module):
    def __init__(self, **settings):
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 2, 8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True, **settings)

    def forward(self, x):
        return self.attention(self.query.expand(len(x), -1, -1), x, x)[0].mean(1)


class Masked(nn.Module):
    """Causal attention; the mask is saved with the weights."""

    def __init__(self):
        super().__init__()
        self.attention, self.after = nn.MultiheadAttention(8, 2, batch_first=True), nn.Linear(8, 8)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(6))

    def forward(self, x):
        return self.after(self.attention(x, x, x, attn_mask=self.mask, need_weights=False)[0].mean(1))


class Recurrent(nn.Module):
    def __init__(self, rnn):
        super().__init__()
        self.before, self.rnn = nn.Linear(8, 8), rnn

    def forward(self, x):
        return self.rnn(torch.tanh(self.before(x)))[0][:, -1]


class Packed(nn.Module):
    """A recurrent network over sequences of different lengths."""

    def __init__(self):
        super().__init__()
        self.embed, self.rnn = nn.Embedding(VOCABULARY, 8, padding_idx=0), nn.GRU(8, 8, batch_first=True)
        self.after = nn.Linear(8, 8)

    def forward(self, x):
        lengths = (x != 0).sum(1).clamp(min=1)
        packed = pack_padded_sequence(self.embed(x), lengths, batch_first=True, enforce_sorted=False)
        return self.after(self.rnn(packed)[1][-1])


class Cell(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell, self.after = nn.LSTMCell(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        state = None
        for part in x.unbind(1):
            state = self.cell(part, state)
        return self.after(state[0])


class TiedText(nn.Module):
    """A language model's embedding, which is its output projection as well."""

    def __init__(self, tie, sparse=False):
        super().__init__()
        self.embed, self.hidden = nn.Embedding(VOCABULARY, 8, sparse=sparse), nn.Linear(8, 8)
        self.output = nn.Linear(8, VOCABULARY, bias=False)
        tie(self)

    def forward(self, x):
        return self.output(torch.tanh(self.hidden(self.embed(x).mean(1))))[:, :8]


def tie(net):
    net.output.weight = net.embed.weight


def tie_the_other_way(net):
    net.embed.weight = net.output.weight


def tie_data(net):
    net.output.weight.data = net.embed.weight.data


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


class Bag(nn.Module):
    def __init__(self):
        super().__init__()
        self.bag, self.after = nn.EmbeddingBag(VOCABULARY, 8, mode="mean"), nn.Linear(8, 8)

    def forward(self, x):
        return self.after(self.bag(x))


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


class Fourier(nn.Module):
    """Complex weights, as Fourier neural operators have them."""

    def __init__(self, dtype=torch.complex64):
        super().__init__()
        self.fc, self.modes = nn.Linear(8, 8), nn.Parameter(torch.randn(5, dtype=dtype))

    def forward(self, x):
        return torch.fft.irfft(torch.fft.rfft(self.fc(x)) * self.modes, n=8).to(x.dtype)


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


class MaskedConvolution(nn.Conv2d):
    """Writes zeros over a part of its weight in each forward pass, as PixelCNN does."""

    def forward(self, x):
        self.weight.data[:, :, 1:, 1:] = 0
        return super().forward(x)


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


class Inner(pl.LightningModule):
    """A LightningModule that is a part of another one."""

    def __init__(self):
        super().__init__()
        self.net = plain()
        self.save_hyperparameters()

    def forward(self, x):
        return self.net(x)


class Symmetric(nn.Module):
    def forward(self, weight):
        return weight.triu() + weight.triu(1).transpose(-1, -2)


def parametrized(register, *, layer=None):
    """Between two plain layers, one whose weight is computed."""
    return nn.Sequential(nn.Linear(8, 8), nn.Tanh(), register(layer or nn.Linear(8, 8)), nn.Tanh(), nn.Linear(8, 8))


def _symmetric(layer):
    parametrize.register_parametrization(layer, "weight", Symmetric())
    return layer


def _pruned_by_torch(layer):
    return prune.l1_unstructured(layer, "weight", 0.3)


def _unusual_memory(net):
    """Weights that are turned in memory, or a part of a larger one."""
    net[0].weight = nn.Parameter(torch.randn(8, 8).t())
    net[2].weight = nn.Parameter(torch.randn(8, 16)[:, ::2])
    return net


def _partly_scripted():
    return nn.Sequential(nn.Linear(8, 8), torch.jit.script(nn.BatchNorm1d(8)), nn.Tanh(), nn.Linear(8, 8))


def _partly_quantized():
    """A pretrained part whose weights are packed integers, under layers that train."""
    quantized = quantize_dynamic(nn.Sequential(nn.Linear(8, 8)), {nn.Linear})
    return nn.Sequential(quantized, nn.Tanh(), nn.Linear(8, 8), nn.Tanh(), nn.Linear(8, 8))


def quantization_aware():
    """Convolution, batch-norm and activation fused, with observers that move in eval mode too."""
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(144, 8)).train()
    net.qconfig = get_default_qat_qconfig("fbgemm")
    return prepare_qat(fuse_modules_qat(net, [["0", "1", "2"]]))


def plain(*, layers=3):
    found = [nn.Linear(8, 8)]
    for _ in range(layers - 1):
        found += [nn.Tanh(), nn.Linear(8, 8)]
    return nn.Sequential(*found)


def volumes(n):
    return [torch.randn(n, 1, 4, 4, 4)]


def colour_images(side=32):
    return images(3, side)


def mean_of_map(answer):
    return answer["out"].mean((2, 3))


def segmentation():
    """torchvision's LR-ASPP over a MobileNetV3 with a tenth of the channels."""
    settings, last = _mobilenet_v3_conf("mobilenet_v3_small", width_mult=0.1, dilated=True)
    return _lraspp_mobilenetv3(MobileNetV3(settings, last), 8)


def detector():
    """torchvision's RetinaNet over two convolutions."""
    net = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 3, 2, 1))
    net.out_channels = 8
    anchors = AnchorGenerator(((8, 16),), ((1.0,),))
    return RetinaNet(net, num_classes=3, anchor_generator=anchors, min_size=32, max_size=32)


def tiny(name, **settings):
    return lambda: timm.create_model(name, pretrained=False, num_classes=0, **settings)


TIMM = {
    "timm ViT": (tiny("vit_tiny_patch16_224", img_size=16, patch_size=8, embed_dim=8, depth=2, num_heads=2), 16),
    "timm Swin": (
        tiny(
            "swin_tiny_patch4_window7_224",
            img_size=16,
            window_size=2,
            patch_size=4,
            embed_dim=8,
            depths=(1, 1),
            num_heads=(2, 2),
        ),
        16,
    ),
    "timm ConvNeXt": (tiny("convnext_atto", depths=(1, 1, 1, 1), dims=(8, 8, 8, 8)), 32),
    "timm EfficientNet": (tiny("test_efficientnet"), 16),
    "timm NFNet (weights standardized in forward)": (tiny("test_nfnet"), 16),
}

NETWORKS = {
    "torchvision LR-ASPP (segmentation, answers in a dict)": (segmentation, colour_images(32), mean_of_map),
    "torchvision feature extractor (fx)": (
        lambda: create_feature_extractor(plain(), {"4": "out"}),
        vectors(),
        lambda answer: answer["out"],
    ),
    "a text classifier with a padding mask (transformer encoder, fast path in eval mode)": (TextClassifier, given),
    "an embedding with sparse gradients": (lambda: TextClassifier(sparse=True), given),
    "an embedding with max_norm": (lambda: TextClassifier(max_norm=0.5), given),
    "MultiheadAttention": (Attention, sequences()),
    "MultiheadAttention with bias_k, bias_v and other sizes": (
        lambda: Attention(add_bias_kv=True, kdim=8, vdim=8, add_zero_attn=True),
        sequences(),
    ),
    "LSTM": (lambda: Recurrent(nn.LSTM(8, 8, batch_first=True)), sequences()),
    "LSTM, two layers, bidirectional, with projections": (
        lambda: Recurrent(nn.LSTM(8, 6, 2, batch_first=True, bidirectional=True, proj_size=4, dropout=0.1)),
        sequences(),
    ),
    "GRU over packed sequences": (Packed, given),
    "RNN": (lambda: Recurrent(nn.RNN(8, 8, batch_first=True)), sequences()),
    "LSTMCell in a loop": (Cell, sequences()),
    "EmbeddingBag": (Bag, tokens(6, VOCABULARY)),
    "Bilinear": (Crossed, vectors()),
    "Conv1d and ConvTranspose1d": (
        lambda: nn.Sequential(nn.ConvTranspose1d(1, 4, 3), nn.Tanh(), nn.Conv1d(4, 1, 3)),
        sequences(1),
        torch.Tensor.squeeze,
    ),
    "ConvTranspose2d, groups, dilation, circular padding": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1, padding_mode="circular", bias=False),
            nn.ConvTranspose2d(4, 4, 3, groups=4),
            nn.Tanh(),
            nn.Conv2d(4, 8, 3, groups=2, dilation=2),
        ),
        images(),
        lambda answer: answer.mean((2, 3)),
    ),
    "Conv3d and ConvTranspose3d": (
        lambda: nn.Sequential(nn.ConvTranspose3d(1, 4, 2), nn.Tanh(), nn.Conv3d(4, 8, 2)),
        volumes,
        lambda answer: answer.mean((2, 3, 4)),
    ),
    "weights standardized in forward": (
        lambda: nn.Sequential(ScaledStdConv2d(1, 4, 3), nn.Tanh(), ScaledStdConv2d(4, 8, 3)),
        images(),
        lambda answer: answer.mean((2, 3)),
    ),
    "an embedding tied to the output projection": (lambda: TiedText(tie), tokens(6, VOCABULARY)),
    "an output projection tied to the embedding": (lambda: TiedText(tie_the_other_way), tokens(6, VOCABULARY)),
    "an embedding tied to the output projection through .data": (lambda: TiedText(tie_data), tokens(6, VOCABULARY)),
    "a tied embedding with sparse gradients": (lambda: TiedText(tie, sparse=True), tokens(6, VOCABULARY)),
    "an autoencoder with one weight, used turned": (lambda: TiedTurned(data=False), vectors()),
    "an autoencoder with one weight, turned through .data": (lambda: TiedTurned(data=True), vectors()),
    "two convolutions with one weight, one layer under two names": (TiedConvolutions, images()),
    "ParameterList, ParameterDict, bare parameters": (Loose, vectors()),
    "max-norm written in forward": (lambda: nn.Sequential(MaxNorm(8, 8), nn.Tanh(), MaxNorm(8, 8)), vectors()),
    "branches that are not always used, and one that never is": (Branches, vectors()),
    "a mixture of experts": (Experts, vectors()),
    "a codebook of moving averages (new parameters in forward)": (Codebook, vectors()),
    "complex weights": (Fourier, vectors()),
    "complex weights in double precision": (lambda: Fourier(torch.complex128), vectors()),
    "buffers of all sorts (expanded, bool, integer, empty, views)": (Buffers, vectors()),
    "a sparse buffer (graph network)": (Graph, vectors()),
    "a sparse buffer, persistent=False": (lambda: Graph(persistent=False), vectors()),
    "a teacher that follows its student": (Teacher, vectors()),
    "noise drawn into a buffer": (Noisy, vectors()),
    "a layer that the user has frozen, low-rank weights beside it": (
        lambda: nn.Sequential(LowRank(), nn.Tanh(), nn.Linear(8, 8)),
        vectors(),
    ),
    "a network that makes another one's weights (functional_call)": (Hyper, vectors()),
    "a layer of which a part is used": (lambda: nn.Sequential(Slimmable(8, 8), nn.Linear(8, 8)), vectors()),
    "extra state": (lambda: nn.Sequential(ExtraState(8, 8), nn.Tanh(), nn.Linear(8, 8)), vectors()),
    "a state dict of its own": (OwnStateDict, vectors()),
    "spectral_norm (parametrization)": (lambda: parametrized(parametrizations.spectral_norm), vectors()),
    "weight_norm (parametrization)": (lambda: parametrized(parametrizations.weight_norm), vectors()),
    "orthogonal (parametrization)": (lambda: parametrized(parametrizations.orthogonal), vectors()),
    "a parametrization of the user's": (lambda: parametrized(_symmetric), vectors()),
    "spectral_norm (hook)": (lambda: parametrized(nn.utils.spectral_norm), vectors()),
    "weight_norm (hook)": (lambda: parametrized(nn.utils.weight_norm), vectors()),
    "weights pruned by torch.nn.utils.prune": (lambda: parametrized(_pruned_by_torch), vectors()),
    "weights turned in memory, or a part of a larger one": (lambda: _unusual_memory(plain()), vectors()),
    "a mask of -inf as a buffer": (Masked, sequences()),
    "a part of torch.jit.script": (_partly_scripted, vectors()),
    "a part that is quantized": (_partly_quantized, vectors()),
    "a queue of what was seen last (MoCo)": (Queue, vectors()),
    "convolutions masked in forward (PixelCNN)": (
        lambda: nn.Sequential(MaskedConvolution(1, 4, 3), nn.Tanh(), nn.Flatten(), nn.Linear(144, 8)),
        images(),
    ),
    "a norm that begins with the first batch (ActNorm)": (
        lambda: nn.Sequential(nn.Linear(8, 8), ActNorm(), nn.Linear(8, 8)),
        vectors(),
    ),
    "a LightningModule in the LightningModule": (Inner, vectors()),
    "DataParallel": (lambda: nn.DataParallel(plain()), vectors()),
    "one layer in double precision": (
        lambda: nn.Sequential(nn.Linear(8, 8), _ToDouble(8, 8, dtype=torch.float64), nn.Linear(8, 8)),
        vectors(),
    ),
}


class _ToDouble(nn.Linear):
    def forward(self, x):
        return super().forward(x.double()).to(x.dtype)
