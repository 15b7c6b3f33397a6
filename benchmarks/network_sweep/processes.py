"""Tries networks in processes of their own, several at a time, with limits of time and memory for each network."""

import json
import multiprocessing
import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait

from network_sweep import LIBRARIES
from network_sweep.attempt import tried
from network_sweep.record import Record

__all__ = ["Limits", "in_processes"]

NETWORKS_EACH = 30  # networks that a process tries, before another one takes its place: memory that is not given back


@dataclass(frozen=True)
class Limits:
    """Limits of a sweep.

    Attributes:
        seconds: Of one core, for one network; by the clock, eight times as many.
        gigabytes: Memory of a process.
        until: No network is begun after it, by ``time.monotonic``.
    """

    seconds: int
    gigabytes: int
    until: float


def in_processes(names: list[tuple[str, str]], workers: int, limits: Limits) -> Iterator[Record]:
    """Yields the outcome of each network, given as library and name, when it is known.

    Processes are forked from this one, which has the libraries loaded: a new one, where one broke down, begins at once.
    """
    for library in {library for library, _ in names}:
        LIBRARIES[library]()
    tried("torch", "nn.LSTM")  # loads what torch imports when it is first used
    waiting, running, idle = list(reversed(names)), list[_Worker](), list[_Worker]()
    while waiting or running:
        while waiting and len(running) < workers and time.monotonic() < limits.until:
            worker = idle.pop() if idle else _Worker(limits)
            worker.begin(*waiting.pop())
            running.append(worker)
        if not running:
            break
        ready = wait([worker.connection for worker in running], timeout=1)
        for worker in list(running):
            record = worker.outcome(is_ready=worker.connection in ready)
            if record:
                yield record
                running.remove(worker)
                idle += [worker] if worker.is_usable else []
    for worker in idle:
        worker.end()


class _Worker:
    """A process that tries one network after the other.

    Args:
        limits: Of each network.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits, self._tried, self.is_usable = limits, 0, True
        context = multiprocessing.get_context("fork")
        self.connection, other = context.Pipe()
        self._process = context.Process(target=_work, args=(other, limits), daemon=True)
        self._process.start()
        other.close()

    def begin(self, library: str, name: str) -> None:
        """Lets the process try a network."""
        self._network, self._began = (library, name), time.monotonic()
        self._tried += 1
        self.connection.send(self._network)

    def outcome(self, *, is_ready: bool) -> Record | None:
        """Returns what the process sent, or why it cannot send anything any more; None while it is at work."""
        seconds = time.monotonic() - self._began
        try:
            if is_ready:
                record = Record(**json.loads(self.connection.recv()))
                if self._tried >= NETWORKS_EACH:
                    self.end()
                return record
        except (EOFError, ConnectionResetError):
            self._process.join()
            slow = self._process.exitcode == -signal.SIGXCPU
            return self._broken("too slow" if slow else "too large", seconds)
        return self._broken("too slow", seconds) if seconds > 8 * self._limits.seconds else None

    def end(self) -> None:
        """Ends the process."""
        self.is_usable = False
        self._process.kill()
        self._process.join()
        self.connection.close()

    def _broken(self, kind: str, seconds: float) -> Record:
        self.end()
        detail = "beyond the limit of time" if kind == "too slow" else "its process ended: the limit of memory"
        return Record(*self._network, kind, detail, round(seconds, 1))


def _work(connection: Connection, limits: Limits) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (limits.gigabytes << 30, limits.gigabytes << 30))
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nothing, stream.fileno())
    while True:
        library, name = connection.recv()
        used = int(time.process_time())
        resource.setrlimit(resource.RLIMIT_CPU, (used + limits.seconds, resource.RLIM_INFINITY))
        connection.send(json.dumps(vars(tried(library, name))))
