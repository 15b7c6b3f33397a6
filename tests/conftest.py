"""What all tests share."""

import contextlib
import fcntl
import json
import os
import signal
from pathlib import Path

# Two workers on two cores: more threads than that only wait for each other. Set before torch is imported anywhere, and
# inherited by the commands that the tests start.
os.environ["OMP_NUM_THREADS"] = "1"

# One cache for all tests and their subprocesses: the embedded alphabets are drawn once.
_CACHE = Path(__file__).parent.parent / ".cache"
os.environ["XDG_CACHE_HOME"] = str(_CACHE)

import hypothesis
import pytest
import torch

from tests.support.commands import run_installed
from tests.support.warm import Done

torch.set_num_threads(1)

# A shell's background jobs ignore Ctrl-C, and so would every command that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Reproducible and without files in the tree: an example that fails once fails again.
hypothesis.settings.register_profile("tests", deadline=None, max_examples=100, derandomize=True, database=None)
hypothesis.settings.load_profile("tests")


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


@contextlib.contextmanager
def _without_processes_after():
    """Ends what Lightning sets up for several processes: it would stay for tests that follow, and their commands."""
    before = dict(os.environ)
    yield
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    if dict(os.environ) != before:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture(autouse=True, scope="module")
def _without_processes_after_a_file():
    with _without_processes_after():
        yield


@pytest.fixture
def without_processes_after():
    with _without_processes_after():
        yield


@pytest.fixture(scope="session")
def tiny_run(tmp_path_factory):
    """One run of the installed command with debug=tiny, in a folder whose name has a space: all workers read it."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "a folder with spaces"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            done = run_installed("packnet-train", "debug=tiny", "hydra.run.dir=run a", cwd=folder)
            assert done.returncode == 0, done.stderr
            (folder / "done").write_text(json.dumps([done.stdout, done.stderr]))
    stdout, stderr = json.loads((folder / "done").read_text())
    return folder / "run a", Done(0, stdout, stderr)
