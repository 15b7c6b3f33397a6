"""Networks of torchvision as a shared part and an output layer, and the optimizers that train them. Torch only."""

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

__all__ = ["OPTIMIZERS", "MakeOptimizer", "abs_pass", "batch_of", "build", "plain_step", "prunable_weights"]

MakeOptimizer = Callable[[Iterable[nn.Parameter]], Optimizer]

OPTIMIZERS: dict[str, MakeOptimizer] = {
    "momentum": partial(torch.optim.SGD, lr=1e-3, momentum=0.9),
    "adamw": partial(torch.optim.AdamW, lr=1e-4, weight_decay=1e-2),
}
CLASSES = 10
_LAST = {"vgg16": "classifier.6", "vgg16_bn": "classifier.6", "resnet18": "fc", "resnet50": "fc"}


def build(arch: str) -> tuple[nn.Module, nn.Linear]:
    """Returns the shared part and the output layer, with random weights from seed 0.

    Args:
        arch: A network of torchvision, at full width; "tiny" is a small one without norms, for trials.
    """
    torch.manual_seed(0)
    if arch == "tiny":
        shared = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten())
        return shared.append(nn.Linear(128, 64)), nn.Linear(64, CLASSES)
    from torchvision import models

    network: nn.Module = models.get_model(arch, num_classes=CLASSES)
    name = _LAST.get(arch, "classifier")
    head = network.get_submodule(name)
    assert isinstance(head, nn.Linear), f"{name} of {arch}"
    network.set_submodule(name, nn.Identity())
    return network, head


def batch_of(count: int, pixels: int = 64) -> tuple[Tensor, Tensor]:
    """Returns random images (count x 3 x pixels x pixels) and class indices, from seed 1."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(count, 3, pixels, pixels, generator=generator)
    return images, torch.randint(CLASSES, (count,), generator=generator)


def prunable_weights(module: nn.Module) -> list[Tensor]:
    """Returns the weights of convolutions and linear layers: what every implementation divides among tasks."""
    return [
        layer.weight.detach()
        for layer in module.modules()
        if isinstance(layer, (nn.Linear, nn.Conv2d)) and layer.weight.requires_grad
    ]


def abs_pass(weights: Iterable[Tensor]) -> None:
    """Makes the pass that pruning is measured by: absolute values of all weights, copied."""
    for weight in weights:
        weight.abs().clone()


def plain_step(network: nn.Module, optimizer: Optimizer, batch: tuple[Tensor, Tensor]) -> None:
    """Makes one step of plain fine-tuning."""
    optimizer.zero_grad()
    cross_entropy(network(batch[0]), batch[1]).backward()  # type: ignore[no-untyped-call]
    optimizer.step()
