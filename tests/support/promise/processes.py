"""Runs a script of this package that starts several processes, and looks at what each of them left."""

import os
import signal
import subprocess
import sys

import torch

from tests.support import ROOT


def run_script(name, *arguments, limit=240, **environment):
    """Returns what it printed; after ``limit`` seconds it is ended, with all processes that it started."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"tests.support.promise.{name}", *map(str, arguments)],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        output, _ = process.communicate()
    return output


def run_rows(name, folder, processes, rows, **environment):
    """Runs rows of a script that is given a folder, how many processes, and the rows; returns what they left."""
    return folder, processes, run_script(name, folder, processes, *rows, **environment)


def left_in(folder, row, rank, output):
    """Returns what a process left at the end of a row."""
    path = folder / f"{row}.{rank}.pt"
    assert path.is_file(), f"process {rank} did not come to the end of {row!r}:\n{output[-3000:]}"
    return torch.load(path, weights_only=True)


def check_row(row, left_by, *, notes=True):
    """Checks that all that each process noted of a row is as it should be.

    ``notes``: whether it must have noted something; others are held by the promise checker, which raises.
    """
    folder, processes, output = left_by
    for rank in range(processes):
        left = left_in(folder, row, rank, output)
        assert not left["error"], f"process {rank}: {left['error']}"
        assert left["notes"] or not notes, row
        assert all(left["notes"].values()), f"process {rank}: {left['notes']}"
