#!/usr/bin/env bash
# torch 2.15.0: of a DTensor whose rows are divided among processes, `weight[:1]` is asked for, to see how long a row is. One
# expects a view, or a message for the one row. Each slice along the divided dimension gathers the whole tensor in every
# process first; nothing says so, so a size that is read in passing takes the memory and the time of a full layer (and waits
# forever where one process alone does it). CommDebugMode shows it. `weight.shape` asks nobody.
# Seen: 1 all-gather for `weight[:1].numel()`, none for `weight.shape[1]`.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q torch==2.15.0 numpy==2.4.6
cd "$work"
cat > sliced.py <<'PYTHON'
import tempfile

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from torch.distributed.tensor.debug import CommDebugMode


def look(rank, folder):
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2)
    weight = distribute_tensor(torch.ones(1000, 10), init_device_mesh("cpu", (2,)), [Shard(0)])
    with CommDebugMode() as of_slice:
        assert weight[:1].numel() == 10
    with CommDebugMode() as of_shape:
        assert weight.shape[1] == 10
    counts = {str(name): count for name, count in of_slice.get_comm_counts().items()}
    if rank == 0:
        print(counts, of_shape.get_total_counts())
    assert of_slice.get_total_counts() == 1 and "all_gather" in "".join(counts)
    assert of_shape.get_total_counts() == 0
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        mp.spawn(look, (folder,), 2)
PYTHON
"$work/env/bin/python" -W ignore sliced.py
echo "as described"
