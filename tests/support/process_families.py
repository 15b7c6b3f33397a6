"""Processes of several processes: started in a session of their own, and found again wherever they went."""

import contextlib
import os
import signal
import subprocess
import time
import uuid
from pathlib import Path

from tests.support import SCRIPTS


class Family:
    """A command and everything that it starts, told by a mark in the environment that all of them inherit."""

    def __init__(self, *command, cwd, **environment):
        self._mark = uuid.uuid4().hex
        self._out, self._err = Path(cwd) / f"{self._mark}.out", Path(cwd) / f"{self._mark}.err"
        known = {**os.environ, "OMP_NUM_THREADS": "1", **environment, "FAMILY": self._mark}
        with self._out.open("w") as out, self._err.open("w") as err:
            self._first = subprocess.Popen(
                [str(SCRIPTS / command[0]), *map(str, command[1:])],
                cwd=cwd,
                env={name: str(value) for name, value in known.items()},
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @property
    def stdout(self):
        return self._out.read_text(encoding="utf-8", errors="replace")

    @property
    def stderr(self):
        return self._err.read_text(encoding="utf-8", errors="replace")

    @property
    def pid(self):
        return self._first.pid

    def alive(self, program=""):
        """Returns pid -> environment of all that live and have ``program`` in their command line."""
        found = {}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (folder / "environ").read_bytes().decode(errors="replace").split("\0")
                environment = dict(word.partition("=")[::2] for word in words if word)
                line = (folder / "cmdline").read_bytes().decode(errors="replace")
                if environment.get("FAMILY") == self._mark and program in line and _state(folder) != "Z":
                    found[int(folder.name)] = environment
        return found

    def rank(self, number, program="packnet"):
        """Returns the pid of the process with local rank ``number``; one without it is the first."""
        return next(
            pid for pid, found in sorted(self.alive(program).items()) if found.get("LOCAL_RANK", "0") == str(number)
        )

    def wait_for(self, event, timeout=300):
        ends = time.monotonic() + timeout
        while not event():
            assert self._first.poll() is None, f"it ended with {self._first.returncode}: {self.stderr}"
            assert time.monotonic() < ends, f"what was waited for did not come: {self.stderr}"
            time.sleep(0.005)

    def signal(self, signum, *pids):
        """Sends it to ``pids``, or to the whole process group as a terminal does."""
        for pid in pids:
            os.kill(pid, signum)
        if not pids:
            os.killpg(self._first.pid, signum)

    def wait(self, timeout=300):
        """Returns the exit code; everything that is left is killed if it takes too long."""
        try:
            return self._first.wait(timeout)
        except subprocess.TimeoutExpired:
            alive = self.alive()
            self.end()
            raise AssertionError(f"{alive} still run after {timeout} s: {self.stderr}") from None

    def left(self, within=10.0):
        """Returns what still lives ``within`` seconds later."""
        ends = time.monotonic() + within
        while self.alive() and time.monotonic() < ends:
            time.sleep(0.05)
        return self.alive()

    def end(self):
        for pid in self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _state(folder):
    return (folder / "stat").read_text().rpartition(")")[2].split()[0]
