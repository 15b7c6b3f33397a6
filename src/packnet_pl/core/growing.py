"""Lets a wider module take the place of one that has finished tasks, between two tasks."""

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Protocol

from torch import Tensor, nn

from packnet_pl.core.bits import same_bits
from packnet_pl.core.inventory import Inventory
from packnet_pl.core.state import State
from packnet_pl.core.widening import check_aligned, check_wider, output_of, place_, prepare_, widened

__all__ = ["check_can_grow", "check_same_outputs", "moved_"]


class Network(Protocol):
    """A module with finished tasks, as :class:`packnet_pl.PackNet` has one."""

    module: nn.Module

    def subnetwork(self, task: str) -> AbstractContextManager[None]:
        """Shows the module as it was when ``task`` was finished."""


def check_can_grow(state: State) -> None:
    """Checks that a network may grow now.

    Raises:
        RuntimeError: If no task is finished, or one is open.
        ValueError: If a task has a learned mask.
    """
    if not state.tasks or state.open_task is not None:
        why = f"{state.open_task!r} is open" if state.open_task is not None else "no task is finished yet"
        raise RuntimeError(f"cannot grow: {why}; a network grows between two tasks")
    if state.masks:
        raise ValueError(f"cannot grow: tasks {list(state.masks)} have learned masks, which fit the present width only")


def moved_(
    state: State, narrow: nn.Module, slots: Inventory, wide: nn.Module, wider: Inventory, example: Tensor
) -> State:
    """Writes all that finished tasks use to a wider module, and returns the state of that.

    Args:
        state: Of the narrower module; no task is open.
        narrow: As it is.
        slots: Its tensors.
        wide: The same network with more channels; gets types, device and modes of ``narrow``.
        wider: Its tensors.
        example: A batch that both take.

    Raises:
        ValueError: If it is another network, or one whose channels are not leading in the wider one.
    """
    check_wider(slots, wider)
    prepare_(narrow, wide)
    check_aligned(narrow, slots, wide, wider, example)
    place_(slots, wider)
    return widened(state, slots, wider)


def check_same_outputs(tasks: Iterable[str], narrow: Network, wide: Network, example: Tensor) -> None:
    """Checks that finished tasks compute the same in a wider module, to the bit.

    Args:
        tasks: Names of the finished tasks.
        narrow: As it was.
        wide: With what :func:`moved_` wrote to it.
        example: A batch that both take.

    Raises:
        ValueError: Otherwise; it names the task.
    """
    for task in tasks:
        if not same_bits(_output(narrow, task, example), _output(wide, task, example)):
            raise ValueError(
                f"cannot grow {type(wide.module).__name__}: task {task!r} would compute otherwise in it: a layer takes "
                "its width from somewhere else than from its tensors"
            )


def _output(network: Network, task: str, example: Tensor) -> Tensor:
    try:
        with network.subnetwork(task):
            return output_of(network.module, example)
    except RuntimeError as error:  # a shape that does not fit
        raise ValueError(f"cannot grow: {type(network.module).__name__} cannot compute {task!r}: {error}") from error
