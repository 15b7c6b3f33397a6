#!/usr/bin/env bash
# A mode that watches torch's operations, and compiles nothing: with torch 2.15.0 the first operation inside any
# TorchDispatchMode imports torch._dynamo, the compiler's front end, some hundred modules. A mode of one's own that counts
# or records operations therefore makes a process start seconds later, for a compiler that nobody called.
# Seen: False before, True after the first operation; only a mode whose hook _should_skip_dynamo returns False does without.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q torch==2.15.0 numpy
cat > "$work/show.py" <<'PYTHON'
import sys

import torch
from torch.utils._python_dispatch import TorchDispatchMode


class Counts(TorchDispatchMode):
    calls = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls += 1
        return func(*args, **(kwargs or {}))


class CountsLightly(TorchDispatchMode):
    calls = 0

    @classmethod
    def _should_skip_dynamo(cls):
        return False

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.calls += 1
        return func(*args, **(kwargs or {}))


def loaded():
    return "torch._dynamo" in sys.modules


before = loaded()
with (Counts if sys.argv[1] == "plain" else CountsLightly)() as mode:
    torch.zeros(2) + 1
assert mode.calls >= 2, mode.calls
after = loaded()
print(sys.argv[1], before, after)
assert (before, after) == (False, sys.argv[1] == "plain")
PYTHON
"$work/env/bin/python" "$work/show.py" plain
"$work/env/bin/python" "$work/show.py" light
echo "as described"
