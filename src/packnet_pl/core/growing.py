"""Grows a shared module between two tasks: in a wider one in its place, finished tasks compute what they did."""

from torch import Tensor, nn

from packnet_pl.core.bits import same_bits
from packnet_pl.core.shared_module import SharedModule
from packnet_pl.core.state import State
from packnet_pl.core.state_dump import dump
from packnet_pl.core.widening import check_aligned, check_wider, output_of, place_, prepare_, widened

__all__ = ["check_can_grow", "grown"]


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


def grown(shared: SharedModule, wider: nn.Module, example: Tensor) -> State:
    """Writes what finished tasks use to a wider module, and returns the state that it has then.

    Args:
        shared: The narrower module, which stays as it is; no task is open.
        wider: The same network with more channels; gets the types, device and modes of the narrower one.
        example: A batch that both take.

    Raises:
        ValueError: If ``wider`` is another network, or one whose channels are not leading in the wider one, or in which
            a finished task computes otherwise.
    """
    narrow, wide = shared.inventory(), shared.inventory_of(wider)
    check_wider(narrow, wide)
    prepare_(shared.module, wider)
    check_aligned(shared.module, narrow, wider, wide, example)
    place_(narrow, wide)
    state = widened(shared.state, narrow, wide)
    other = SharedModule.of_state(wider, dump(state))
    for task in state.tasks:
        if not same_bits(_output(shared, task, example), _output(other, task, example)):
            raise ValueError(
                f"cannot grow {type(wider).__name__}: task {task!r} would compute otherwise in it: a layer takes its "
                "width from somewhere else than from its tensors"
            )
    return state


def _output(shared: SharedModule, task: str, example: Tensor) -> Tensor:
    try:
        with shared.subnetwork(task):
            return output_of(shared.module, example)
    except RuntimeError as error:  # a shape that does not fit
        raise ValueError(f"cannot grow: {type(shared.module).__name__} cannot compute {task!r}: {error}") from error
