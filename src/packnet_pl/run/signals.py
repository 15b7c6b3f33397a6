"""Stops a run in good order on SIGTERM, and on SIGUSR1, which SLURM sends before a time limit."""

import signal
import threading
from types import FrameType

import pytorch_lightning as pl
import torch
import torch.distributed as dist

from packnet_pl.distributed import is_distributed

__all__ = ["StopRequest", "StoppedError"]

SIGNALS = (signal.SIGTERM, signal.SIGUSR1)


class StoppedError(Exception):
    """The run was asked to stop, and has saved its state.

    Attributes:
        signum: The signal.
    """

    def __init__(self, signum: int) -> None:
        super().__init__(f"stopped by {signal.Signals(signum).name}")
        self.signum = signum


class StopRequest:
    """Records that a signal came, and is asked for it where the run can save its state.

    Attributes:
        signum: The signal, or None as long as none came.
    """

    def __init__(self) -> None:
        self.signum: int | None = None

    def listen(self) -> None:
        """Handles the signals from now on."""
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                signal.signal(signum, self._note)

    def keep_from(self, trainer: pl.Trainer) -> None:
        """Keeps the signals from ``trainer`` while it fits; call it before.

        Lightning's own handlers end a fit without saving it, and under DDP they wait for the other processes in the
        middle of whatever was going on. There is no setting that leaves them out.
        """
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]

    def asked(self) -> int | None:
        """Returns the signal that came to this process or another of the run, or None; all of them have to call it."""
        if not is_distributed():
            return self.signum
        device = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else None
        signum = torch.tensor(self.signum or 0, device=device)
        dist.all_reduce(signum, dist.ReduceOp.MAX)
        return int(signum) or None

    def raise_if_asked(self) -> None:
        """Raises StoppedError if a signal came, in all processes of the run; all of them have to call it."""
        signum = self.asked()
        if signum is not None:
            raise StoppedError(signum)

    def _note(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
