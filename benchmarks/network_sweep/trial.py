"""Two tasks in one network: whether the first is what it was, to the bit, and which share of parameters they divide."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn, optim

from network_sweep.network import Network, tensors_of
from network_sweep.parameters import Shares, shares_of
from packnet_pl import PackNet

__all__ = ["Outcome", "try_network"]

STEPS = {"train": 2, "retrain": 1, "second": 2}


@dataclass(frozen=True)
class Outcome:
    """What happened.

    Attributes:
        kind: "holds"; "differs by itself": two passes with one seed give other bits; "changed": the first task's
            outputs are not what they were; or "refused".
        detail: What is known beside it.
        shares: How the parameters are divided; None if nothing was owned.
        moved: Share of the owned weights that the second task changed.
    """

    kind: str
    detail: str = ""
    shares: Shares | None = None
    moved: float = math.nan


def try_network(network: Network, make: Callable[[nn.Module], PackNet]) -> Outcome:
    """Trains two tasks under weight decay and momentum, and compares the first one's outputs as integers.

    The first is trained by SGD, pruned by half and retrained; the second by AdamW. The outputs are taken from the live
    network before the first is finished, then in the middle of the second and after it.

    Args:
        network: Is trained.
        make: Makes the PackNet.
    """
    module = network.module
    packnet = make(module)
    try:
        packnet.begin_task("first")
    except (ValueError, RuntimeError) as error:
        return Outcome("refused", str(error))
    shares = shares_of(network, packnet)
    sgd = optim.SGD(module.parameters(), lr=1e-3, momentum=0.9, weight_decay=0.1)
    _train(network, packnet, sgd, STEPS["train"], seed=100)
    packnet.prune(0.5)
    _train(network, packnet, sgd, STEPS["retrain"], seed=200)
    before = _outputs(network)
    if _bits(before) != _bits(_outputs(network)):
        return Outcome("differs by itself", "two passes in eval mode with the same seed", shares)
    packnet.finish_task()
    packnet.begin_task("second")
    weights = {name: module.get_parameter(name).detach().clone() for name in packnet.summary().owned}
    adamw = optim.AdamW(module.parameters(), lr=1e-3, weight_decay=0.1)
    for half in (300, 400):
        _train(network, packnet, adamw, STEPS["second"] // 2, seed=half)
        with packnet.subnetwork("first"):
            now = _outputs(network)
        if _bits(before) != _bits(now):
            return Outcome("changed", _difference(before, now), shares)
    packnet.finish_task()
    with packnet.subnetwork("first"):
        if _bits(before) != _bits(_outputs(network)):
            return Outcome("changed", "after the second was finished", shares)
    packnet.verify()
    changed = sum(int((module.get_parameter(name) != old).sum()) for name, old in weights.items())
    return Outcome("holds", "; ".join(network.notes), shares, changed / sum(each.numel() for each in weights.values()))


def _train(network: Network, packnet: PackNet, optimizer: optim.Optimizer, steps: int, *, seed: int) -> None:
    module = network.module.train()
    for step in range(steps):
        torch.manual_seed(seed + step)
        optimizer.zero_grad()
        loss = _loss(network.call(module, seed + step))
        loss.backward()  # type: ignore[no-untyped-call]
        packnet.mask_gradients_()
        nn.utils.clip_grad_norm_([each for each in module.parameters() if each.grad is not None], 1.0)
        optimizer.step()
        packnet.restore_()
    optimizer.zero_grad()


def _loss(outputs: Any) -> Tensor:
    """Returns a loss that reaches every output that has a gradient: the mean distance of each to one.

    Raises:
        ValueError: If no output has a gradient.
    """
    learned = [each for each in tensors_of(outputs) if each.requires_grad and each.numel() and each.is_floating_point()]
    if not learned:
        raise ValueError("no output has a gradient in training mode")
    return torch.stack(
        [(torch.nan_to_num(each.float(), 0, 0, 0).clamp(-1e3, 1e3) - 1).square().mean() for each in learned]
    ).sum()


def _outputs(network: Network) -> list[Tensor]:
    """Returns what the network gives in eval mode, with one seed for what it draws."""
    network.module.eval()
    torch.manual_seed(0)
    with torch.no_grad():
        return [each.detach().clone() for each in tensors_of(network.call(network.module, 0))]


def _bits(tensors: list[Tensor]) -> list[tuple[str, tuple[int, ...], bytes]]:
    """Returns types, shapes and the memory itself, in which NaN equals NaN and -0.0 is not 0.0."""
    dense = [each.cpu().contiguous() for each in tensors]
    return [
        (str(each.dtype), tuple(each.shape), each.reshape(-1).view(torch.uint8).numpy().tobytes()) for each in dense
    ]


def _difference(before: list[Tensor], now: list[Tensor]) -> str:
    if [each.shape for each in before] != [each.shape for each in now]:
        return "outputs of other shapes"
    number, largest = max(
        (
            (i, float((a.double() - b.double()).abs().max()))
            for i, (a, b) in enumerate(zip(before, now, strict=True))
            if a.numel()
        ),
        key=lambda each: each[1],
    )
    return f"output {number} by {largest:.3g}"
