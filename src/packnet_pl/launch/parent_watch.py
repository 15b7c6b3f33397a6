"""Ends a process when the one that started it is gone, so that none is left behind."""

import os
import threading
import time

__all__ = ["end_with_parent"]


def end_with_parent(every: float = 1.0) -> None:
    """Ends this process soon after its parent has ended, wherever it waits: NCCL could wait for half an hour.

    Args:
        every: Seconds between two looks.
    """
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(every)
        os._exit(1)

    threading.Thread(target=watch, daemon=True, name="end-with-parent").start()
