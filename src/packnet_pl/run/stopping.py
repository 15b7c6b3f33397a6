"""Leaving in good order when asked to: SIGTERM, and SIGUSR1, which SLURM sends before a time limit."""

import signal
import threading
from types import FrameType

__all__ = ["StopRequest", "StoppedError"]

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class StoppedError(Exception):
    """The run was asked to stop, and saved what it had.

    Attributes:
        signum: The signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum


class StopRequest:
    """Remembers that a signal came; whoever works asks for it where it can save.

    Attributes:
        signum: The signal, or None as long as none came.
    """

    def __init__(self) -> None:
        self.signum: int | None = None

    def listen(self) -> None:
        """Takes the signals from now on. Call it again after somebody else may have taken them, as Lightning does."""
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                signal.signal(signum, self._note)

    def raise_if_asked(self) -> None:
        """Raises StoppedError if a signal came."""
        if self.signum is not None:
            raise StoppedError(self.signum)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
