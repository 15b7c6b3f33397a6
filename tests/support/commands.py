"""Runs the commands: in processes forked from one that has imported everything, or installed, as a user starts them."""

import subprocess

from tests.support import SCRIPTS, warm


def run(program, *words, cwd, timeout=300):
    """Runs a command's main function in a process of its own."""
    return warm.Process(program, *words, cwd=cwd).wait(timeout)


def train(*overrides, cwd, timeout=300):
    return run("packnet-train", *overrides, cwd=cwd, timeout=timeout)


def run_installed(program, *words, cwd, timeout=300):
    """Runs the installed program: an interpreter that imports everything anew."""
    return subprocess.run(
        [str(SCRIPTS / program), *map(str, words)], cwd=cwd, capture_output=True, text=True, timeout=timeout
    )


def last_line(text):
    return text.strip().splitlines()[-1]
