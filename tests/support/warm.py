"""Runs the commands' main functions in processes of their own, forked from one that has imported everything already.

A kill test needs dozens of processes; importing torch and Lightning in each of them would take most of its time.
"""

import contextlib
import json
import multiprocessing
import os
import random
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from tests.support import SCRIPTS

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(
    [
        "packnet_pl.cli.train",
        "packnet_pl.cli.resume",
        "packnet_pl.cli.evaluate",
        "packnet_pl.configuration.run_plan",
        "packnet_pl.cli.export",
        "packnet_pl.cli.predict",
        "packnet_pl.cli.inspect_file",
        "packnet_pl.cli.plan",
        "packnet_pl.cli.report",
        "packnet_pl.packed.predict",
        "packnet_pl.report",
        "packnet_pl.run",
        "matplotlib.backends.backend_agg",
        "rich.progress",
        "torch.distributed",
    ]
)


class Done(NamedTuple):
    returncode: int
    stdout: str
    stderr: str


class Process:
    """A running command, in a process group of its own."""

    def __init__(self, program, *words, cwd, before=None):
        """``before`` is called in the new process first; it has to be importable."""
        self._number = time.monotonic_ns()
        self._out, self._err = (Path(cwd) / f"{self._number}.{kind}" for kind in ("out", "err"))
        for path in (self._out, self._err):
            path.touch()
        self.begun = time.monotonic()
        arguments = (program, list(map(str, words)), str(cwd), str(self._out), str(self._err), dict(os.environ), before)
        self._process = _context.Process(target=_main, args=arguments)
        self._process.start()
        self.pid = self._process.pid

    @property
    def stderr(self):
        return self._err.read_text(encoding="utf-8", errors="replace")

    @property
    def running(self):
        return self._process.exitcode is None

    def signal(self, signum):
        """Sends it to this process alone."""
        os.kill(self.pid, signum)

    def kill(self):
        """Kills the whole group."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def wait(self, timeout=300):
        code = self._join(timeout)
        if code is None:
            self.kill()
            raise TimeoutError(f"still running after {timeout} s: {self.stderr}")
        done = Done(code, self._out.read_text(encoding="utf-8", errors="replace"), self.stderr)
        self._out.unlink()
        self._err.unlink()
        return done

    def _join(self, timeout):
        self._process.join(timeout)
        return self._process.exitcode


class RealProcess(Process):
    """The installed command, as a user starts it, in a process group of its own."""

    def __init__(self, program, *words, cwd):
        self._number = time.monotonic_ns()
        self._out, self._err = (Path(cwd) / f"{self._number}.{kind}" for kind in ("out", "err"))
        self.begun = time.monotonic()
        with self._out.open("w") as out, self._err.open("w") as err:
            command = [str(SCRIPTS / program), *map(str, words)]
            self._process = subprocess.Popen(command, cwd=cwd, stdout=out, stderr=err, start_new_session=True)
        self.pid = self._process.pid

    @property
    def running(self):
        return self._process.poll() is None

    def _join(self, timeout):
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout)
        return self._process.returncode


def run(program, *words, cwd, before=None):
    """Runs it to its end."""
    return Process(program, *words, cwd=cwd, before=before).wait()


def kill_after(process, event, delay=0.0, timeout=300):
    """Kills ``process`` ``delay`` seconds after ``event()`` becomes true.

    Returns:
        Whether it was still running.
    """
    deadline = time.monotonic() + timeout
    while process.running and not event():
        assert time.monotonic() < deadline, f"what was waited for did not come: {process.stderr}"
        time.sleep(0.0005)
    ends = time.monotonic() + delay
    while process.running and time.monotonic() < ends:
        time.sleep(0.001)
    hit = process.running
    process.kill()
    done = process.wait()
    assert hit or done.returncode == 0, done.stderr
    return hit


def outcome(folder):
    """Everything that a resumed run has to have in common with one that was never interrupted."""
    found = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    for task in found["tasks"]:
        task.pop("seconds")
    names = [task["name"] for task in found["tasks"]]
    files = ["packed.safetensors", "report/accuracy.csv", "report/per_class.csv"]
    files += ["report/ownership.png"] if found["free"] is not None else []
    own = [f"tasks/{name}/{file}" for name in names for file in ("probe.safetensors", "filters.json", "confusion.json")]
    files += [path for path in own if (folder / path).exists()]
    files += [str(path.relative_to(folder)) for path in folder.glob("tasks/*/logs/*/metrics.csv")]
    return {"results.json": found, **{path: (folder / path).read_bytes() for path in files}}


def assert_same(folder, expected):
    found = outcome(folder)
    assert found["results.json"] == expected["results.json"]
    assert set(found) == set(expected)
    for path in expected:
        assert found[path] == expected[path], f"{path} is not bit-identical"


def delays(seed, scale):
    """Random numbers in [0, ``scale``), the same ones for a seed."""
    rng = random.Random(seed)
    while True:
        yield rng.random() * scale


def _main(program, words, cwd, out, err, environment, before):
    os.setpgid(0, 0)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    for path, stream in ((out, 1), (err, 2)):
        file = os.open(path, os.O_WRONLY | os.O_APPEND)
        os.dup2(file, stream)
        os.close(file)
    sys.stdout = open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
    from packnet_pl.cli import evaluate, export, inspect_file, plan, predict, report, resume, train

    def become(_, arguments):
        sys.argv = ["packnet-train", *arguments[3:]]
        train.main()
        sys.exit(0)

    os.execv = become  # packnet-resume becomes packnet-train without importing all anew
    sys.argv = [program, *words]
    if before is not None:
        before()
    try:
        {
            "packnet-train": train.main,
            "packnet-plan": plan.main,
            "packnet-resume": resume.main,
            "packnet-eval": evaluate.main,
            "packnet-export": export.main,
            "packnet-predict": predict.main,
            "packnet-inspect": inspect_file.main,
            "packnet-report": report.main,
            "python": lambda: runpy.run_path(sys.argv[1], run_name="__main__"),
        }[program]()
    finally:
        sys.stdout.flush()
