#!/usr/bin/env bash
# torch 2.15.0: torch.distributed.checkpoint (DCP) saves twice into one folder, the usual `latest/` of a training, and a process
# is killed during the second. One expects the first checkpoint still, as its `.metadata` is written last and replaced by a
# rename, or an error. The files of the rows have the same names each time and are written over in place, before
# `.metadata`; that of the first save fits them. It loads, without a word: rows of one save beside rows of the other.
# Seen: of a tensor of two processes, saved as ones and then as twos while process 1 is killed: [2.0, 2.0, 1.0, 1.0].
# So each checkpoint needs a folder of its own.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q torch==2.15.0 numpy==2.4.6
cd "$work"
cat > saved.py <<'PYTHON'
import os
import signal
import socket
import sys
import time
from pathlib import Path

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
import torch.multiprocessing as mp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor


class EndsEarly(dcp.FileSystemWriter):
    """Process 1 is killed before it writes, when process 0 has written."""

    def write_data(self, plan, planner):
        if dist.get_rank() == 1:
            time.sleep(5)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().write_data(plan, planner)


def save(rank, port, number, writer):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    values = torch.full((4,), float(number))
    dcp.save({"weight": distribute_tensor(values, init_device_mesh("cpu", (2,)), [Shard(0)])}, storage_writer=writer)


def in_two_processes(number, writer):
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    mp.spawn(save, (port, number, writer), 2)


if __name__ == "__main__":
    in_two_processes(1, dcp.FileSystemWriter("latest"))
    try:
        in_two_processes(2, EndsEarly("latest"))
        sys.exit("process 1 was not killed")
    except mp.ProcessExitedException as ended:
        print("second save:", ended)
    loaded = {"weight": torch.zeros(4)}
    dcp.load(loaded, checkpoint_id="latest")
    print(sorted(path.name for path in Path("latest").iterdir()), loaded["weight"].tolist())
    assert loaded["weight"].tolist() == [2.0, 2.0, 1.0, 1.0]
PYTHON
"$work/env/bin/python" -W ignore saved.py
echo "as described"
