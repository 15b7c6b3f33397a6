#!/usr/bin/env bash
# torch 2.13.0 (numpy 2.4.6): torch.serialization.get_unsafe_globals_in_checkpoint lists what a file needs to load with
# weights_only=True. Allowing all that it lists is not enough for one numpy number (a metric in a checkpoint, say): the class of
# its type, numpy.dtypes.Float32DType, is not in the list, and loading goes on failing until that one is allowed too.
# Seen: ['numpy._core.multiarray.scalar', 'numpy.dtype']; UnpicklingError; {'loss': np.float32(1.0)}.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q torch==2.13.0 numpy==2.4.6
"$work/env/bin/python" - <<'PYTHON'
import importlib
import io
import pickle

import numpy as np
import torch
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

file = io.BytesIO()
torch.save({"loss": np.float32(1)}, file)
file.seek(0)
listed = sorted(get_unsafe_globals_in_checkpoint(file))
print(listed)
assert listed == ["numpy._core.multiarray.scalar", "numpy.dtype"], listed
paths = [name.rpartition(".") for name in listed]
allowed = [getattr(importlib.import_module(module), name) for module, _, name in paths]


def load(names):
    file.seek(0)
    with safe_globals(names):
        return torch.load(file, weights_only=True)


try:
    load(allowed)
except pickle.UnpicklingError as error:
    print(type(error).__name__)
    assert "numpy.dtypes.Float32DType" in str(error)
else:
    raise AssertionError("what is listed is enough by now")
print(load([*allowed, np.dtypes.Float32DType]))
PYTHON
echo "as described"
