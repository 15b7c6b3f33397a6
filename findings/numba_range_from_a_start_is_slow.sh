#!/usr/bin/env bash
# A loop that begins at an index it is given: numba 0.68.1 (numpy 2.4.6) compiles `for i in range(start, n)` over an array to
# code that takes several times as long as `range(n)`, as `start` could be negative and would then count from the end, which
# each access has to ask. It is as fast again over a slice `values[start:]`, or if `start` is unsigned; no warning tells.
# Seen, over 4 million entries, one x86-64 core: range(n) 0.74 ms, range(start, n) 4.39, slice 0.74, unsigned 0.72.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q numba==0.68.1 numpy==2.4.6
"$work/env/bin/python" - <<'PYTHON'
import statistics
import time

import numba
import numpy as np


@numba.njit
def whole(values, marks, start):
    for index in range(values.size):
        marks[index] = values[index] <= 7


@numba.njit
def from_start(values, marks, start):
    for index in range(start, values.size):
        marks[index] = values[index] <= 7


@numba.njit
def of_slice(values, marks, start):
    values, marks = values[start:], marks[start:]
    for index in range(values.size):
        marks[index] = values[index] <= 7


@numba.njit
def from_unsigned(values, marks, start):
    for index in range(np.uint64(start), np.uint64(values.size)):
        marks[index] = values[index] <= 7


values = np.arange(4_000_000, dtype=np.uint32)
marks = np.zeros(values.size, bool)
seconds = {}
for _ in range(15):
    for loop in (whole, from_start, of_slice, from_unsigned):
        loop(values, marks, 0)  # compiled and warm
        begun = time.process_time()
        loop(values, marks, 0)
        seconds.setdefault(loop.__name__, []).append(time.process_time() - begun)
        assert marks.sum() == 8
taken = {name: 1000 * statistics.median(found) for name, found in seconds.items()}
print({name: f"{milliseconds:.2f} ms" for name, milliseconds in taken.items()})
assert taken["from_start"] > 2 * taken["whole"], "range(start, n) is no slower any more"
assert max(taken["of_slice"], taken["from_unsigned"]) < taken["from_start"] / 2
PYTHON
echo "as described"
