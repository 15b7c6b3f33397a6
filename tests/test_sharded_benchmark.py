"""The benchmark of sharded networks as a program: it measures and prints. Its figures are no tests."""

import subprocess
import sys

import pytest

from tests.support import ROOT


@pytest.mark.slow
@pytest.mark.soak
@pytest.mark.parametrize(
    ("what", "row"),
    [
        ("fits", "second, retrain"),
        ("steps", "third, retrain"),
        ("calls", "save_packed, second"),
        ("memory", "finish_task, second"),
    ],
)
def test_it_prints_its_tables(what, row):
    command = [sys.executable, str(ROOT / "benchmarks" / "sharded.py"), what, "--quick", "--processes", "2"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert row in done.stdout
