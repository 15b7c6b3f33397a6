"""Reports training that diverged: a loss, weight or statistic that is NaN or infinite."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from packnet_pl.choices import Phase
from packnet_pl.core.finite import is_finite
from packnet_pl.core.shards import own_part, processes_of, reshard_

__all__ = ["DivergedError", "check_finite_weights"]


class DivergedError(FloatingPointError):
    """A task whose loss, weight or running statistic is NaN or infinite. Finished tasks are untouched.

    Args:
        what: Begins the message.
        task: Name of the task.
        phase: Whose rate was too high: weights that are huge show only in the first loss of the next phase.

    Attributes:
        task: As given.
        phase: As given.
    """

    def __init__(self, what: str, task: str, phase: Phase) -> None:
        super().__init__(
            f"{what}: the task stops here, finished tasks are untouched; lower its learning rate or check its data"
        )
        self.task, self.phase = task, phase


def check_finite_weights(module: nn.Module, task: str, phase: Phase) -> None:
    """Checks that every parameter and running statistic of ``module`` is finite.

    The loss need not show it: in training mode batch-norm divides by the statistics of the batch, while the running
    ones, which predict later, overflow; and after the last step nobody computes a loss.

    Args:
        module: What was trained. Where it is sharded, every process must call it alike, and all of them raise.
        task: For the message.
        phase: Likewise.

    Raises:
        DivergedError: Otherwise; it names the first such tensor.
    """
    reshard_(module)
    tensors = dict(_trained(module))
    processes, found = processes_of(tensors.values()), (not is_finite(own_part(tensor)) for tensor in tensors.values())
    # One process stops at the first one.
    wrong = found if processes is None else processes.sum(torch.tensor(list(found), dtype=torch.int64)).tolist()
    for name, is_wrong in zip(tensors, wrong, strict=True):
        if is_wrong:
            raise DivergedError(f"{name} holds NaN or infinity since task {task!r} was trained", task, phase)


def _trained(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    # Other buffers may hold infinity on purpose, as attention masks do.
    for name, buffer in module.named_buffers():
        if name.rpartition(".")[2].startswith("running_"):
            yield name, buffer
