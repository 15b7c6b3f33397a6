"""Facts of the machine and the versions that figures belong to."""

import os
import platform
import re
from importlib.metadata import version
from pathlib import Path

__all__ = ["machine_facts", "versions"]


def machine_facts() -> dict[str, str | int]:
    """Returns processor, cores, memory, system and threads."""
    cpu = re.search(r"^model name\s*:\s*(.+)$", _read("/proc/cpuinfo"), re.MULTILINE)
    memory = re.search(r"^MemTotal:\s+(\d+) kB", _read("/proc/meminfo"), re.MULTILINE)
    return {
        "processor": cpu[1] if cpu else platform.processor(),
        "cores": os.cpu_count() or 0,
        "memory_gib": round(int(memory[1]) / 2**20) if memory else 0,
        "system": f"{platform.system()} {platform.machine()}",
        "threads": 1,
    }


def versions() -> dict[str, str]:
    """Returns those of Python, of this package and of what computes."""
    names = ("packnet-pl", "torch", "torchvision", "pytorch-lightning", "numba", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def _read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
