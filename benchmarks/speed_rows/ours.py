"""This package's PackNet, in a plain loop: the adapter that a peer would have, see peer.py."""

from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from packnet_pl import PackNet
from speed_rows.networks import MakeOptimizer


class Ours:
    """Masks before each step of the optimizer and restores after it."""

    def __init__(self, shared: nn.Module, head: nn.Linear, make_optimizer: MakeOptimizer) -> None:
        self.packnet = PackNet(shared)
        self._network, self._make_optimizer = nn.Sequential(shared, head), make_optimizer

    def begin(self) -> None:
        """Begins a task."""
        self.packnet.begin_task(f"task {len(self.packnet.tasks) + 1}")
        self._optimizer = self._make_optimizer(self._network.parameters())

    def prune(self, ratio: float) -> None:
        """Prunes per layer."""
        self.packnet.prune(ratio)

    def finish(self) -> None:
        """Finishes the task."""
        self.packnet.finish_task()

    def step(self, images: Tensor, labels: Tensor) -> None:
        """Makes one step."""
        self._optimizer.zero_grad()
        cross_entropy(self._network(images), labels).backward()  # type: ignore[no-untyped-call]
        self.packnet.mask_gradients_()
        self._optimizer.step()
        self.packnet.restore_()


start = Ours
