"""Shows the shared module as the open task computes with it, from the begin of a batch to its backward pass."""

from collections.abc import Iterable
from contextlib import ExitStack
from typing import Any

from packnet_pl.choices import Phase
from packnet_pl.core import PackNet
from packnet_pl.training.divergence import check_finite_weights

__all__ = ["MaskedPass"]


class MaskedPass:
    """The forward and backward pass of a batch, for a task that does not compute with all weights that are there.

    Args:
        packnet: With the task open.
        task: Its name.
        phase: Which of its phases is fitted.
    """

    def __init__(self, packnet: PackNet, task: str, phase: Phase) -> None:
        self._packnet, self._task, self._phase = packnet, task, phase
        self._shown = ExitStack()

    def begin_(self) -> None:
        """Shows the module as the task computes with it, until :meth:`end_`.

        Raises:
            DivergedError: If weights are ranked and one is not finite.
            ValueError: If they cannot be ranked otherwise.
        """
        try:
            self._shown.enter_context(self._packnet.masked())
        except ValueError:
            check_finite_weights(self._packnet.module, self._task, self._phase)
            raise

    def end_(self) -> None:
        """Restores the true values of all weights."""
        self._shown.close()

    def check_begun(self) -> None:
        """Checks, after a backward pass, that it was one through the module as the task computes with it.

        Raises:
            ValueError: If it is the second for a batch, and the task has a mask.
        """
        mask = self._packnet.mask
        if mask.is_shown or not mask.is_needed(self._packnet.state):
            return
        raise ValueError(
            f"task {self._task!r} learns which weights it uses, and asks for the loss of a batch several times (as "
            "LBFGS does): weights are masked for one forward and backward pass; use another optimizer, or leave "
            "mask='learned' and prune schedule 'learned' out"
        )

    def schedule_(self, optimizers: Iterable[Any]) -> None:
        """Lets the rate of a mask that is learned follow the schedule of the weights' optimizers."""
        self._packnet.mask.schedule_(_schedule_factor(optimizers))


def _schedule_factor(optimizers: Iterable[Any]) -> float:
    """Returns the present rate over the one that a schedule began with; 1 without a schedule."""
    groups = [group for optimizer in optimizers for group in getattr(optimizer, "param_groups", [])]
    if not groups or not groups[0].get("initial_lr"):
        return 1.0
    return float(groups[0]["lr"]) / float(groups[0]["initial_lr"])
