"""What all tests share."""

import os
import signal
from pathlib import Path

# Two workers on two cores: more threads than that only wait for each other. Set before torch is imported anywhere, and
# inherited by the commands that the tests start.
os.environ["OMP_NUM_THREADS"] = "1"

# One cache for all tests and their subprocesses: the embedded alphabets are drawn once.
_CACHE = Path(__file__).parent.parent / ".cache"
os.environ["XDG_CACHE_HOME"] = str(_CACHE)

# A shell's background jobs ignore Ctrl-C, and so would every command that the tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)
