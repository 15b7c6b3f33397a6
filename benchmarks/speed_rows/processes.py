"""Runs groups of rows, and peers, each in a process of its own: no measurement sees another's memory or libraries."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from speed_rows.clock import Report

__all__ = ["MeasurementError", "run_measurement"]

_BENCHMARKS = Path(__file__).parents[1]


class MeasurementError(RuntimeError):
    """A measurement failed; its last line says why."""


def run_measurement(
    module: str, arguments: Sequence[str], report: Report, python: str = sys.executable
) -> dict[str, list[float]]:
    """Runs ``python -m speed_rows.MODULE OUT ARGUMENTS``, and returns row -> samples, which it writes to OUT as JSON.

    Args:
        module: Of this package.
        arguments: Of the module.
        report: Told of each line that it prints.
        python: The interpreter; a peer has its own.

    Raises:
        MeasurementError: If it fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        out, errors = Path(folder) / "samples.json", Path(folder) / "errors.txt"
        with errors.open("w") as sink:
            process = subprocess.Popen(
                [python, "-m", f"speed_rows.{module}", str(out), *arguments],
                cwd=_BENCHMARKS,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=subprocess.PIPE,
                stderr=sink,
                text=True,
            )
            assert process.stdout is not None
            for line in process.stdout:
                report(line.strip())
        if process.wait():
            raise MeasurementError(
                "\n".join(errors.read_text().splitlines()[-12:]) or f"exit code {process.returncode}"
            )
        found: dict[str, list[float]] = json.loads(out.read_text())
        return found
