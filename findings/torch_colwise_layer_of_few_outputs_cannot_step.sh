#!/usr/bin/env bash
# torch 2.15.0: tensor parallelism, a layer that ColwiseParallel divides and that has fewer outputs than there are processes, so that
# one process has none of its rows. fully_shard trains such layers, and so does ColwiseParallel where rows are merely uneven. Here
# the gradient of a Shard(0) parameter comes out as Replicate(), and each optimizer's step raises.
# Seen, with three processes: 7 outputs: gradient Shard(0), steps; 2 outputs: gradient Replicate(), "aten.add_.Tensor: in-place
# operations that require placement changes are not supported".
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q torch==2.15.0 numpy==2.4.6
cd "$work"
cat > colwise.py <<'PYTHON'
import os
import socket

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, Shard
from torch.distributed.tensor.parallel import ColwiseParallel, parallelize_module


def step(rank, port):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=3)
    mesh = init_device_mesh("cpu", (3,))
    for outputs, placement in ((7, Shard(0)), (2, Replicate())):
        net = nn.Sequential(nn.Linear(4, outputs))
        parallelize_module(net, mesh, {"0": ColwiseParallel(output_layouts=Replicate())})
        net(torch.ones(5, 4)).square().mean().backward()
        weight, said = net[0].weight, "steps"
        try:
            torch.optim.SGD(net.parameters(), lr=0.1).step()
        except RuntimeError as error:
            said = str(error).splitlines()[0]
        if rank == 0:
            print(f"{outputs} outputs: weight {weight.placements}, gradient {weight.grad.placements}, {said}")
        assert (weight.placements, weight.grad.placements) == ((Shard(0),), (placement,))
        assert ("in-place operations that require placement changes" in said) == (outputs == 2)


if __name__ == "__main__":
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    mp.spawn(step, (port,), 3)
PYTHON
"$work/env/bin/python" -W ignore colwise.py
echo "as described"
