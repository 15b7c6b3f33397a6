"""The protocol that implementations of PackNet are measured through, and the rows of peers. Torch only.

This module is also run by the Python of a peer, which has neither this package nor what it depends on.
"""

import copy
import importlib.util
from pathlib import Path
from typing import Protocol

from torch import Tensor, nn

from speed_rows.clock import Report, ratios, seconds
from speed_rows.networks import OPTIMIZERS, MakeOptimizer, abs_pass, batch_of, build, plain_step, prunable_weights

__all__ = ["PAIRS", "STEPS", "Adapter", "Method", "load_adapter", "measure_prune", "measure_step", "open_second_task"]

PAIRS = 15
STEPS = {
    "step-vgg16": ("vgg16", 4, "momentum"),
    "step-resnet50": ("resnet50", 8, "momentum"),
    "step-densenet121": ("densenet121", 8, "momentum"),
    "step-vgg16-adamw": ("vgg16", 4, "adamw"),
}
"""Row -> network, batch size, optimizer."""


class Method(Protocol):
    """An implementation at work on one network. Tasks come one after another, each begun, pruned and finished."""

    def begin(self) -> None:
        """Opens the next task, with a new optimizer."""

    def prune(self, ratio: float) -> None:
        """Prunes the open task: ``ratio`` (in [0, 1)) of its weights are given up, layer by layer."""

    def finish(self) -> None:
        """Freezes the open task for good."""

    def step(self, images: Tensor, labels: Tensor) -> None:
        """Makes one step on a batch: from ``zero_grad`` to what the method does after ``optimizer.step()``."""


class Adapter(Protocol):
    """The module that a file of the folder of adapters is. Its name is the file's."""

    def start(self, shared: nn.Module, head: nn.Linear, make_optimizer: MakeOptimizer) -> Method:
        """Returns the method on a network whose tasks share ``shared``; ``head`` maps its features to logits.

        Raises:
            ValueError: If it does not take this network: the row says why.
        """


def load_adapter(path: Path) -> Adapter:
    """Imports the adapter that a file holds.

    Raises:
        ValueError: If the file has no function ``start``.
    """
    spec = importlib.util.spec_from_file_location(f"adapter_{path.stem}", path)
    assert spec is not None, path
    assert spec.loader is not None, path
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not callable(getattr(module, "start", None)):
        raise ValueError(f"{path} has no function start(shared, head, make_optimizer): see benchmarks/README.md")
    return module


def open_second_task(method: Method) -> None:
    """Takes a method into its second task: the first one got half of the weights."""
    method.begin()
    method.prune(0.5)
    method.finish()
    method.begin()


def measure_step(
    adapter: Adapter, arch: str, batch_size: int, optimizer: str, rounds: int, report: Report
) -> list[float]:
    """Returns the CPU time of a step of the second task over one of plain fine-tuning on an equal network.

    Args:
        adapter: Of the implementation.
        arch: As :func:`speed_rows.networks.build` takes it.
        batch_size: Images of 64 x 64.
        optimizer: A name of :data:`speed_rows.networks.OPTIMIZERS`.
        rounds: Pairs of steps.
        report: Told of progress.

    Raises:
        ValueError: If the implementation does not take the network.
    """
    shared, head = build(arch)
    plain = nn.Sequential(copy.deepcopy(shared), copy.deepcopy(head))
    optimizes, batch = OPTIMIZERS[optimizer](plain.parameters()), batch_of(batch_size)
    report("first task")
    method = adapter.start(shared, head, OPTIMIZERS[optimizer])
    open_second_task(method)
    for _ in range(2):  # states of optimizers are made, kernels chosen
        method.step(*batch)
        plain_step(plain, optimizes, batch)
    return ratios(lambda: method.step(*batch), lambda: plain_step(plain, optimizes, batch), rounds, report)


def measure_prune(adapter: Adapter, arch: str, rounds: int, report: Report) -> list[float]:
    """Returns the CPU time of pruning half of the first task over one pass over the same weights.

    Args:
        adapter: Of the implementation.
        arch: As :func:`speed_rows.networks.build` takes it.
        rounds: How often, each time on a new network.
        report: Told of progress.
    """
    found = []
    for number in range(rounds):
        report(f"network {number + 1} of {rounds}")
        shared, head = build(arch)
        weights = prunable_weights(shared)
        method = adapter.start(shared, head, OPTIMIZERS["momentum"])
        method.begin()
        over = seconds(lambda weights=weights: abs_pass(weights))  # type: ignore[misc]
        found.append(seconds(lambda method=method: method.prune(0.5)) / over)  # type: ignore[misc]
    return found
