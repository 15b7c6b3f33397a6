"""Pruning, beginning and finishing a task of VGG-16 at full width, over one pass over the same weights."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from packnet_pl import PackNet
from packnet_pl.choices import Scope
from speed_rows.clock import Report, cpu, seconds
from speed_rows.networks import abs_pass, build, prunable_weights

__all__ = ["measure", "train_as_if"]

ROUNDS = 5  # of each scope


def measure(quick: bool, report: Report) -> dict[str, list[float]]:
    """Returns row -> ratios: in turns per layer and globally, two tasks each time; the first round is not counted."""
    shared, _ = build("tiny" if quick else "vgg16")
    weights = prunable_weights(shared)
    drawn = [weight.clone() for weight in weights]
    found: dict[str, list[float]] = {}
    scopes: tuple[Scope, Scope] = ("layer", "global")
    rounds = 1 if quick else ROUNDS
    for number in range(2 * rounds + 2):
        report(f"round {number // 2} of {rounds}, {scopes[number % 2]}")
        for name, ratio in _two_tasks(shared, weights, drawn, scopes[number % 2]).items():
            if number >= 2:
                found.setdefault(name, []).append(ratio)
            elif name == "prune-layer":
                report(f"the first prune of a process, which loads and compiles, took {ratio:.1f} passes")
    return found


def _two_tasks(
    shared: nn.Module, weights: Sequence[Tensor], drawn: Sequence[Tensor], scope: Scope
) -> Mapping[str, float]:
    for weight, value in zip(weights, drawn, strict=True):
        weight.copy_(value)

    def in_passes(action: Callable[[], object]) -> float:
        """Each beside a pass of its own: how fast a busy machine is changes within a second."""
        over = seconds(lambda: abs_pass(weights), cpu)
        return seconds(action, cpu) / over

    packnet = PackNet(shared)
    packnet.begin_task("first")
    found = {f"prune-{scope}": in_passes(lambda: packnet.prune(0.5, scope=scope))}
    found["finish-first"] = in_passes(packnet.finish_task)
    found["begin-second"] = in_passes(lambda: packnet.begin_task("second"))
    train_as_if(packnet, drawn)
    found[f"prune-{scope}-half"] = in_passes(lambda: packnet.prune(0.5, scope=scope))
    found["finish-second"] = in_passes(packnet.finish_task)
    found["begin-third"] = in_passes(lambda: packnet.begin_task("third"))
    return found


@torch.no_grad()
def train_as_if(packnet: PackNet, values: Sequence[Tensor]) -> None:
    """Gives the open task's weights other values, in place, as training would; all else stays.

    Args:
        packnet: With an open task.
        values: One per weight that has an owner, in their order, and of its shape.
    """
    number = len(packnet.tasks) + 1
    for (name, owner), value in zip(packnet.owners.items(), values, strict=True):
        weight = packnet.module.get_parameter(name)
        weight.copy_(torch.where(owner == number, value, weight))
