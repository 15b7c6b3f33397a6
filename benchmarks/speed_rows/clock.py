"""Times actions beside each other, in turns, so that a busy machine disturbs both alike."""

import time
from collections.abc import Callable

__all__ = ["Action", "Clock", "Report", "cpu", "ratios", "seconds"]

Action = Callable[[], object]
Clock = Callable[[], float]
Report = Callable[[str], None]

cpu: Clock = time.process_time


def seconds(action: Action, clock: Clock = cpu) -> float:
    """Returns how long ``action`` takes by ``clock``."""
    begun = clock()
    action()
    return clock() - begun


def ratios(ours: Action, theirs: Action, rounds: int, report: Report, clock: Clock = cpu) -> list[float]:
    """Returns the time of ``ours`` over that of ``theirs``, once per round; they take turns at being first.

    Args:
        ours: What is measured.
        theirs: What it is measured by.
        rounds: How many pairs; one more is run before, and not counted.
        report: Told of each round.
        clock: Seconds; those of the processor if not given.
    """
    found = []
    for number in range(rounds + 1):
        report(f"pair {number} of {rounds}")
        pair = [0.0, 0.0]
        for which in (number % 2, 1 - number % 2):
            pair[which] = seconds((ours, theirs)[which], clock)
        found.append(pair[0] / pair[1])
    return found[1:]
