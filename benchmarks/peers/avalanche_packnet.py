"""Avalanche's PackNet (avalanche-lib 0.6.0): its model and plugin as its strategy calls them.

The module of this name needs an environment of its own: see ../README.md. It refuses batch-norm.
"""

import torch
from avalanche.models.packnet import PackNetModel
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from speed_rows.networks import MakeOptimizer


class Avalanche:
    """What its strategy does in each step and between tasks, without its loggers and loaders."""

    def __init__(self, shared: nn.Module, head: nn.Linear, make_optimizer: MakeOptimizer) -> None:
        self._model, self._make_optimizer = PackNetModel(nn.Sequential(shared, head)), make_optimizer
        self._task = -1

    def begin(self) -> None:
        """Makes the optimizer anew, as the plugin does before each experience."""
        self._task += 1
        self._optimizer = self._make_optimizer(self._model.parameters())
        self._model.activate_task(self._task)

    def prune(self, ratio: float) -> None:
        """Prunes per layer."""
        self._model.prune(ratio)

    def finish(self) -> None:
        """Freezes what was not pruned."""
        self._model.freeze_pruned()

    def step(self, images: Tensor, labels: Tensor) -> None:
        """Makes one step; the model has hooks on gradients, and masks weights in its forward pass."""
        self._optimizer.zero_grad()
        tasks = torch.full((len(images),), self._task)
        cross_entropy(self._model(images, tasks), labels).backward()  # type: ignore[no-untyped-call]
        self._optimizer.step()


start = Avalanche
