"""The engines that clusters run on, started on this machine by the tests themselves; they skip where one is missing."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "slurm.sh"
PROGRAMS = ["munged", "slurmctld", "slurmd", "sbatch", "srun", "scontrol", "scancel", "squeue"]


@pytest.fixture(scope="session")
def slurm(tmp_path_factory):
    """A SLURM of one machine with two CPUs; what the environment needs to use it."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no {', '.join(missing)}: apt-get install slurm-wlm munge")
    folder = tmp_path_factory.mktemp("slurm")
    started = subprocess.run([SCRIPT, "start", folder], capture_output=True, text=True, timeout=120)
    try:
        if started.returncode:
            pytest.fail(f"SLURM is installed but does not start: {started.stderr}")
        yield {**os.environ, "SLURM_CONF": str(folder / "slurm.conf"), "OMP_NUM_THREADS": "1"}
    finally:
        subprocess.run([SCRIPT, "stop", folder], capture_output=True, timeout=120)
