"""Memory of this process as Linux counts it, and measurements in processes of their own."""

import ctypes
import gc
import json
import os
import re
import subprocess
import sys
from pathlib import Path

__all__ = ["held_bytes", "in_own_process", "peak_bytes", "restart_peak"]

_BENCHMARKS = Path(__file__).parents[1]


def held_bytes() -> int:
    """Returns the resident memory, without what Python and the allocator could give back."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    return _status("VmRSS")


def peak_bytes() -> int:
    """Returns the most resident memory since the start, or since :func:`restart_peak`."""
    return _status("VmHWM")


def restart_peak() -> None:
    """Begins to count the peak anew, at what is resident now."""
    Path("/proc/self/clear_refs").write_text("5")


def in_own_process(module: str, *arguments: str) -> dict[str, float]:
    """Runs a module of this package in a new process, and returns the JSON object that its last line is.

    Raises:
        RuntimeError: If it fails; with what it wrote.
    """
    command = [sys.executable, "-m", f"speed_rows.{module}", *arguments]
    done = subprocess.run(
        command, cwd=_BENCHMARKS, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _status(key: str) -> int:
    found = re.search(rf"^{key}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    assert found, key
    return 1024 * int(found[1])
