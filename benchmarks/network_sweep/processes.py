"""Tries each network in a process of its own, several at a time, each with a limit of time and memory."""

import json
import math
import multiprocessing
import os
import resource
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkProcess
from typing import Any

from torch import nn

from network_sweep import LIBRARIES
from network_sweep.network import NotTriedError
from network_sweep.record import Record
from network_sweep.trial import try_network
from packnet_pl import PackNet
from packnet_pl.core import is_weight

__all__ = ["Limits", "in_processes", "tried"]


@dataclass(frozen=True)
class Limits:
    """Limits of a sweep.

    Attributes:
        seconds: Of one core, for one network; by the clock, eight times as many.
        gigabytes: Memory for one network.
        until: No network is begun after it, by ``time.monotonic``.
    """

    seconds: int
    gigabytes: int
    until: float


def in_processes(names: list[tuple[str, str]], workers: int, limits: Limits) -> Iterator[Record]:
    """Yields the outcome of each network, as libraries and names, when it is known.

    The processes are forked from this one, which has the libraries loaded: a new one begins at once.
    """
    for library in {library for library, _ in names}:
        LIBRARIES[library]()
    tried("torch", "nn.LSTM")  # loads what torch imports when it is first used
    waiting, running = list(reversed(names)), dict[Connection, tuple[ForkProcess, str, str, float]]()
    while waiting or running:
        while waiting and len(running) < workers and time.monotonic() < limits.until:
            library, name = waiting.pop()
            process, connection = _begin(library, name, limits)
            running[connection] = process, library, name, time.monotonic()
        if not running:
            return
        ready = wait(list(running), timeout=1)
        for connection, (process, library, name, began) in list(running.items()):
            seconds = time.monotonic() - began
            if connection not in ready and seconds < 8 * limits.seconds:
                continue
            yield _outcome(process, connection if connection in ready else None, library, name, seconds)
            connection.close()
            del running[connection]


def tried(library: str, name: str) -> Record:
    """Builds a network, trains two tasks in it, and counts its parameters in published size."""
    began = time.monotonic()
    networks = LIBRARIES[library]()
    shares, moved = dict[str, Any](), math.nan
    try:
        outcome = try_network(networks.build(name), packnet_for)
        kind, detail, moved = outcome.kind, outcome.detail, outcome.moved
        shares = vars(outcome.shares) if outcome.shares else {}
    except NotTriedError as error:
        kind, detail = "not built", str(error)
    except MemoryError as error:
        kind, detail = "too large", str(error)
    except Exception as error:  # of any kind: networks of others
        kind, detail = "failed", f"{_where(error)}: {type(error).__name__}: {' '.join(str(error).split())[:300]}"
    published = _published(lambda: networks.published(name)) if shares else {}
    return Record(library, name, kind, detail, round(time.monotonic() - began, 1), shares, moved, published)


def _where(error: Exception) -> str:
    """Returns whose code raised: that of packnet_pl, or the network's own."""
    files = [frame.filename for frame in traceback.extract_tb(error.__traceback__)]
    return "in packnet_pl" if any("/packnet_pl/" in file for file in files) else "in the network"


def packnet_for(module: nn.Module) -> PackNet:
    """Returns the PackNet that is measured: with the rule that it has if none is given."""
    return PackNet(module)


def _published(make: Callable[[], nn.Module]) -> dict[str, int]:
    """Returns the numbers of parameters, by the rule alone: PackNet takes no weights that have no values."""
    try:
        module = make()
    except Exception:  # of any kind: networks of others; the small size is shown then
        return {}
    owned = [
        parameter.numel()
        for name, parameter in module.named_parameters()
        if is_weight(name, module.get_submodule(name.rpartition(".")[0]), parameter)
    ]
    return {"total": sum(each.numel() for each in module.parameters()), "owned": sum(owned)}


def _begin(library: str, name: str, limits: Limits) -> tuple[ForkProcess, Connection]:
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(sender, library, name, limits))
    process.start()
    sender.close()
    return process, receiver


def _child(sender: Any, library: str, name: str, limits: Limits) -> None:
    resource.setrlimit(resource.RLIMIT_DATA, (limits.gigabytes << 30, limits.gigabytes << 30))
    resource.setrlimit(resource.RLIMIT_CPU, (limits.seconds, limits.seconds))
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (sys.stdout, sys.stderr):
        os.dup2(nothing, stream.fileno())
    sender.send(json.dumps(vars(tried(library, name))))


def _outcome(process: ForkProcess, connection: Connection | None, library: str, name: str, seconds: float) -> Record:
    """Returns what the process sent, or why it sent nothing, and ends it."""
    try:
        return Record(**json.loads(connection.recv())) if connection else _ended(library, name, "too slow", seconds)
    except EOFError:
        process.join()
        slow = process.exitcode == -signal.SIGXCPU
        return _ended(library, name, "too slow" if slow else "too large", seconds)
    finally:
        process.kill()
        process.join()


def _ended(library: str, name: str, kind: str, seconds: float) -> Record:
    detail = "beyond the limit of time" if kind == "too slow" else "its process ended: the limit of memory"
    return Record(library, name, kind, detail, round(seconds, 1))
