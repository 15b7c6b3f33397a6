"""Networks as people have them: name -> (the shared part, what it takes, how it is read)."""

import pytorch_lightning as pl
import timm
import torch
from timm.layers import ScaledStdConv2d
from torch import nn
from torch.ao.quantization import fuse_modules_qat, get_default_qat_qconfig, prepare_qat, quantize_dynamic
from torch.nn.utils import parametrizations
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.models.mobilenetv3 import MobileNetV3, _mobilenet_v3_conf
from torchvision.models.segmentation.lraspp import _lraspp_mobilenetv3

from tests.support.promise.buffer_networks import (
    ActNorm,
    Buffers,
    Codebook,
    ExtraState,
    Graph,
    Noisy,
    OwnStateDict,
    Queue,
    Teacher,
)
from tests.support.promise.sequence_networks import (
    VOCABULARY,
    Attention,
    Bag,
    Cell,
    Masked,
    Packed,
    Recurrent,
    TextClassifier,
    TiedText,
    given,
    tie,
    tie_data,
    tie_the_other_way,
)
from tests.support.promise.user_modules import images, sequences, tokens, vectors
from tests.support.promise.weight_networks import (
    Branches,
    Crossed,
    Experts,
    Fourier,
    Hyper,
    Loose,
    LowRank,
    MaskedConvolution,
    MaxNorm,
    MixedKernels,
    Slimmable,
    StackedExperts,
    TiedConvolutions,
    TiedTurned,
    parametrized,
    pruned_by_torch,
    symmetric,
    unusual_memory,
)


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


class Inner(pl.LightningModule):
    """A LightningModule that is a part of another one."""

    def __init__(self):
        super().__init__()
        self.net = plain()
        self.save_hyperparameters()

    def forward(self, x):
        return self.net(x)


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
    "experts stacked in one parameter": (StackedExperts, vectors()),
    "kernels mixed for each image (CondConv)": (MixedKernels, vectors()),
    "torch.jit.script": (lambda: torch.jit.script(plain()), vectors()),
    "torch.jit.trace": (lambda: torch.jit.trace(plain(), torch.randn(2, 8)), vectors()),
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
    "a parametrization of the user's": (lambda: parametrized(symmetric), vectors()),
    "spectral_norm (hook)": (lambda: parametrized(nn.utils.spectral_norm), vectors()),
    "weight_norm (hook)": (lambda: parametrized(nn.utils.weight_norm), vectors()),
    "weights pruned by torch.nn.utils.prune": (lambda: parametrized(pruned_by_torch), vectors()),
    "weights turned in memory, or a part of a larger one": (lambda: unusual_memory(plain()), vectors()),
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
