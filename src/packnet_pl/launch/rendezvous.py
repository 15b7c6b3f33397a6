"""Connects processes that were started beside each other, before Lightning does: broadcast, receive, barrier.

If one of them cannot go on, all leave: nobody waits for a process that is not there.
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any, NoReturn

from packnet_pl.errors import UsageError
from packnet_pl.ranks import Rank

__all__ = ["Rendezvous"]

# Until all processes are there: they were started together. Then until the main one has read all data, as torch waits.
_TO_COME, _TO_BUILD, _TO_LEAVE, _TO_SPEAK = timedelta(minutes=5), timedelta(minutes=30), 60.0, 1.0
# Seconds after which a process reports for whom it waits, and between two looks: signals are handled between them.
_TO_SAY, _LOOK = 5.0, 0.05

_STARTED_BY = {
    "torchrun": "torchrun (WORLD_SIZE={count})",
    "srun": "srun (SLURM_NTASKS={count})",
    "hand": "hand (WORLD_SIZE={count})",
    "node": "hand, one on each machine (NODE_RANK)",
}


class Rendezvous:
    """The rendezvous of the processes of a run: broadcast, receive, barrier.

    Args:
        rank: This process.
        address: Of the main process's machine.
        port: Where torch.distributed will meet as well: its store takes both.
        to_come: How long to wait until all are there.

    Raises:
        UsageError: If one of them does not come.
    """

    def __init__(self, rank: Rank, address: str, port: int, to_come: timedelta = _TO_COME) -> None:
        from torch import distributed as dist

        self._rank, self._count = rank, rank.count
        self._lost = (dist.DistError, RuntimeError)
        self._to_come, self._address = to_come.total_seconds(), f"{address}:{port}"
        made: list[Any] = []

        def connect() -> None:
            try:
                # torchrun has a store here already. Otherwise "multi_tenant" lets torch.distributed have it later.
                store = dist.TCPStore(  # type: ignore[attr-defined]
                    address,
                    port,
                    is_master=rank.is_main and rank.started_by != "torchrun",
                    timeout=to_come,
                    wait_for_workers=False,
                    multi_tenant=True,
                )
                made.append(dist.PrefixStore("packnet_pl", store))  # type: ignore[attr-defined]
            except self._lost as error:
                made.append(error)

        # In a thread: while torch waits for a connection, this process would handle no signal.
        threading.Thread(target=connect, daemon=True).start()
        self._until(lambda: bool(made), 0, self._to_come + _TO_LEAVE)
        if isinstance(made[0], Exception):
            failed = "cannot be found by the others" if rank.is_main else "finds no process 0"
            first = str(made[0]).splitlines()[0]
            raise UsageError(f"process {rank.number} {failed} at {self._address}: {first}") from made[0]
        self._store = made[0]
        if not rank.is_main:
            self._store.set(f"here/{rank.number}", "")
        elif rank.count is not None:
            self._wait_for_all(rank.count)

    def broadcast(self, message: Mapping[str, Any], count: int) -> None:
        """Sends a message to the ``count`` - 1 other processes, which wait in :meth:`receive`.

        Raises:
            UsageError: If one of them does not come.
        """
        if self._rank.count is None:
            self._wait_for_all(count)
        self._count = count
        self._store.set("message", json.dumps({**message, "count": count}))

    def cancel(self) -> None:
        """Ends the other processes, instead of sending a message."""
        self._store.set("message", json.dumps(None))
        self._last_to_leave("message")

    def receive(self) -> dict[str, Any]:
        """Returns the message of the main process; ends this one, with a report, if it cancels the run."""
        message = self._get("message", 0)
        if message is None:
            self._store.add("message/left", 1)
            self.leave_quietly()
        self._count = message["count"]
        return dict(message)

    def barrier(self, name: str, error: str | None = None, wait: Callable[[], None] = lambda: None) -> None:
        """Waits until all processes have come to this point; ends all of them if one reports an error.

        Args:
            name: Of the point.
            error: What is wrong in this process, or None.
            wait: Called again and again meanwhile; what it raises ends the others as well.

        Raises:
            UsageError: In the main process, if another has an error.
        """
        assert self._count is not None
        try:
            wait()
            self._store.set(f"{name}/{self._rank.number}", json.dumps(error))
            errors = [self._get(f"{name}/{number}", number, wait) for number in range(self._count)]
        except UsageError:
            raise
        except BaseException as raised:
            self._store.set(f"{name}/{self._rank.number}", json.dumps(str(raised)))
            self._store.add(f"{name}/left", 1)
            raise
        self._last_to_leave(name)
        wrong = next((number for number, found in enumerate(errors) if found is not None), None)
        if wrong is None or error is not None:
            return
        if self._rank.is_main:
            raise UsageError(f"process {wrong} of {self._count}: {errors[wrong]}")
        self.leave_quietly()

    def leave_quietly(self) -> NoReturn:
        """Ends this process with code 2, silently: the main one reports why.

        When one process fails, srun and torchrun stop all others: the main one is to report it before. srun asks
        all for their codes, and the main one's is enough; torchrun on another machine knows of this process only.
        """
        if self._rank.started_by == "torchrun":
            time.sleep(_TO_SPEAK)
        sys.exit(0 if self._rank.started_by == "srun" else 2)

    def _get(self, key: str, number: int, wait: Callable[[], None] = lambda: None) -> Any:
        """Returns the message of process ``number``."""
        self._wait_for(key, number, _TO_BUILD.total_seconds(), wait)
        return json.loads(self._store.get(key))

    def _wait_for_all(self, count: int) -> None:
        for number in range(1, count):
            self._wait_for(f"here/{number}", number, self._to_come)

    def _wait_for(self, key: str, number: int, limit: float, wait: Callable[[], None] = lambda: None) -> None:
        def there() -> bool:
            wait()
            return bool(self._store.check([key]))

        try:
            self._until(there, number, limit)
        except self._lost as error:
            first = str(error).splitlines()[0]
            raise UsageError(f"process {self._rank.number} lost the others: {first}") from error

    def _until(self, there: Callable[[], bool], number: int, limit: float) -> None:
        """Waits until process ``number`` has done something, and reports it if that takes long.

        Raises:
            UsageError: After ``limit`` seconds.
        """
        count = self._count or "several"
        started_by = _STARTED_BY[self._rank.started_by].format(count=count)
        whom = f"process {number} of {count} at {self._address}, started by {started_by}"
        begun, reported = time.monotonic(), False
        while not there():
            waited = time.monotonic() - begun
            if waited > limit:
                alone = "; if this process was started alone, unset that variable" if number else ""
                raise UsageError(f"process {self._rank.number} waited {limit:.0f} seconds for {whom}{alone}")
            if waited > _TO_SAY and not reported:
                reported = True
                print(f"packnet-train: process {self._rank.number} waits for {whom}", file=sys.stderr)  # noqa: T201
            time.sleep(_LOOK)

    def _last_to_leave(self, point: str) -> None:
        """Keeps the main process, which has the store, until the others have read their messages."""
        self._store.add(f"{point}/left", 1)
        ends = time.monotonic() + _TO_LEAVE
        while self._rank.is_main and time.monotonic() < ends:
            if self._store.add(f"{point}/left", 0) >= (self._count or 1):
                return
            time.sleep(0.02)
