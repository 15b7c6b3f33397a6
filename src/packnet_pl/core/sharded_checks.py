"""What a network whose rows are divided among processes cannot do, with the reason."""

from packnet_pl.core.shards import Processes
from packnet_pl.core.state import State

__all__ = ["check_sharded", "refuse_sharded"]


def check_sharded(state: State, processes: Processes | None) -> None:
    """Checks that all that is in a state can be had by a network of which each process has rows.

    Args:
        state: To be loaded.
        processes: That have the rows; None if each has the whole.

    Raises:
        ValueError: If it cannot.
    """
    if state.shapes:
        refuse_sharded("a network that has grown", processes)


def refuse_sharded(what: str, processes: Processes | None) -> None:
    """Refuses ``what`` where processes have the rows of a network.

    Raises:
        ValueError: If they have.
    """
    if processes is not None:
        raise ValueError(
            f"{what} was asked for in a network that is sharded over {processes.size} processes (fully_shard), where "
            "it is not supported: train it in one process or with DDP"
        )
