"""Ends a process on a signal while torch connects the processes of a run, where Python handles none."""

import os
import select
import signal
import sys
import threading

from packnet_pl.errors import leave_on

__all__ = ["answer_while_connecting"]


def answer_while_connecting(count: int | None, grace: float = 10.0, to_say: float = 30.0) -> None:
    """Ends this process soon after a signal that comes before all are connected; reports long waits.

    Afterwards signals are handled by the training, and nothing is done here. Call it in the main thread.

    Args:
        count: How many processes were started beside each other; None or 1 where Lightning may start others, and then
            writes their number into the environment.
        grace: Seconds that a signal has to be handled elsewhere.
        to_say: Seconds after which this process says for whom it waits.
    """
    from torch import distributed as dist

    def connecting() -> bool:
        return int(os.environ.get("WORLD_SIZE") or count or 1) > 1 and not dist.is_initialized()

    came, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)

    def watch() -> None:
        if not select.select([came], [], [], to_say)[0] and connecting():
            others = int(os.environ.get("WORLD_SIZE") or count or 1)
            print(f"packnet-train: waiting until all {others} processes of this run are there", file=sys.stderr)  # noqa: T201
        while True:
            signum = os.read(came, 1)[0]
            select.select([], [], [], grace)
            if connecting():
                leave_on(signum)

    threading.Thread(target=watch, daemon=True, name="answer-while-connecting").start()
