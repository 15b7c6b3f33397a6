"""A VGG that gets task after task without being trained: weights are drawn in place of training."""

from typing import Any

import torch
from torch.nn.functional import cross_entropy

from packnet_pl import TaskClassifier
from packnet_pl.choices import Keeping
from packnet_pl.models import torchvision_backbone
from speed_rows.life import train_as_if
from speed_rows.networks import OPTIMIZERS, batch_of

__all__ = ["RATIO", "Growing"]

RATIO = 0.9


class Growing:
    """A classifier whose tasks keep a tenth of what was free each.

    Args:
        arch: A VGG of torchvision.
        width: Share of its channels, in (0, 1].
        norm: Whether norms are "shared" or "per_task".
    """

    def __init__(self, arch: str, width: float, norm: Keeping) -> None:
        torch.manual_seed(0)
        self.model = TaskClassifier(torchvision_backbone(arch, image_size=64, width=width), norm=norm)
        self.packnet = self.model.packnet
        self.weights = {name: self.model.backbone.get_parameter(name).detach() for name in self.packnet.owners}
        self._drawn = [torch.randn(weight.shape).mul_(0.02) for weight in self.weights.values()]
        self._batch = batch_of(4)

    def open_next(self) -> None:
        """Begins the next task, with new values for what it owns, and with a new optimizer."""
        name = f"task {len(self.packnet.tasks) + 1}"
        self.model.add_task(name, num_classes=10)
        self.packnet.begin_task(name, private=self.model.private_modules(name))
        train_as_if(self.packnet, self._drawn)
        self.model.train()
        parameters = [*self.model.backbone.parameters(), *self.model.heads[name].parameters()]
        self._optimizer = OPTIMIZERS["momentum"](parameters)

    def close(self) -> None:
        """Prunes and finishes the open task."""
        self._optimizer.zero_grad()
        self.packnet.prune(RATIO)
        self.packnet.finish_task(self.model)

    def finish_until(self, tasks: int) -> None:
        """Goes on until that many tasks are finished."""
        if self.packnet.open_task is not None:
            self.close()
        while len(self.packnet.tasks) < tasks:
            self.open_next()
            self.close()

    def step(self) -> None:
        """Makes a training step of the open task."""
        images, labels = self._batch
        self._optimizer.zero_grad()
        cross_entropy(self.model(images), labels).backward()  # type: ignore[no-untyped-call]
        self.packnet.mask_gradients_()
        self._optimizer.step()
        self.packnet.restore_()

    @torch.no_grad()
    def evaluate(self) -> None:
        """Shows the task that was finished last, and predicts a batch."""
        with self.packnet.subnetwork(self.packnet.tasks[-1]):
            self.model.backbone(self._batch[0])

    def state_dict(self) -> dict[str, Any]:
        """Returns PackNet's state as a checkpoint has it, for which every task is verified."""
        return self.packnet.state_dict(self.model)

    def reload(self) -> None:
        """Loads the state anew, as in a new process: nothing that was verified before is known. No task is open."""
        if self.packnet.open_task is not None:
            self.packnet.abort_task()
        self.packnet.load_state_dict(self.state_dict())

    def begin(self) -> None:
        """Begins the next task."""
        self.packnet.begin_task("next", root=self.model)
