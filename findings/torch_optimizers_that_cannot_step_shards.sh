#!/usr/bin/env bash
# torch 2.15.0: of torch's own optimizers some cannot step parameters that fully_shard (FSDP2) has divided. One expects that all can, as
# they are elementwise, or that "fused" is as well supported as it is for AdamW; nothing says so before the first step.
# Seen, in two gloo processes: SGD(fused=True) and Adagrad(fused=True): NotImplementedError, "does not have a sharding strategy
# registered"; Adafactor: RuntimeError, "in-place operations that require placement changes are not supported". SGD, Adagrad,
# Adam and AdamW (fused, too), Adadelta, Adamax, ASGD, Muon, NAdam, RAdam, RMSprop, Rprop: they step.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q torch==2.15.0 numpy==2.4.6
cd "$work"
cat > optimizers.py <<'PYTHON'
import os
import socket

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn, optim
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard

FUSED = {"SGD", "Adam", "AdamW", "Adagrad"}
NAMES = ["SGD", "Adam", "AdamW", "Adagrad", "Adafactor", "Adadelta", "Adamax", "ASGD", "Muon"]
NAMES += ["NAdam", "RAdam", "RMSprop", "Rprop"]


def step(rank, port):
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=2)
    mesh = init_device_mesh("cpu", (2,))
    fails = []
    for name, fused in [(name, False) for name in NAMES] + [(name, True) for name in sorted(FUSED)]:
        net = nn.Linear(4, 4, bias=False)
        fully_shard(net, mesh=mesh)
        net(torch.ones(3, 4)).square().mean().backward()
        try:
            getattr(optim, name)(net.parameters(), lr=0.1, **({"fused": True} if fused else {})).step()
        except (RuntimeError, NotImplementedError) as error:
            fails.append(name + (" fused" if fused else ""))
            if rank == 0:
                print(f"{fails[-1]}: {type(error).__name__}: {str(error).splitlines()[0][:150]}")
    assert fails == ["Adafactor", "Adagrad fused", "SGD fused"], fails


if __name__ == "__main__":
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    mp.spawn(step, (port,), 2)
PYTHON
"$work/env/bin/python" -W ignore optimizers.py
echo "as described"
