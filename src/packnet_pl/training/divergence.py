"""Reports training that diverged: a loss, weight or statistic that is NaN or infinite."""

from collections.abc import Iterator

from torch import Tensor, nn

from packnet_pl.choices import Phase
from packnet_pl.core.finite import is_finite

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
        module: What was trained.
        task: For the message.
        phase: Likewise.

    Raises:
        DivergedError: Otherwise; it names the first such tensor.
    """
    for name, tensor in _trained(module):
        if not is_finite(tensor):
            raise DivergedError(f"{name} holds NaN or infinity since task {task!r} was trained", task, phase)


def _trained(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    # Other buffers may hold infinity on purpose, as attention masks do.
    for name, buffer in module.named_buffers():
        if name.rpartition(".")[2].startswith("running_"):
            yield name, buffer
