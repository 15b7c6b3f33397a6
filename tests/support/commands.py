"""Runs the installed commands as a user does: in a process of their own, in a folder of the test's."""

import subprocess
import sys
from pathlib import Path

SCRIPTS = Path(sys.executable).parent


def run(program, *arguments, cwd, timeout=300):
    return subprocess.run(
        [str(SCRIPTS / program), *map(str, arguments)], cwd=cwd, capture_output=True, text=True, timeout=timeout
    )


def train(*overrides, cwd, timeout=300):
    return run("packnet-train", *overrides, cwd=cwd, timeout=timeout)


def last_line(text):
    return text.strip().splitlines()[-1]
