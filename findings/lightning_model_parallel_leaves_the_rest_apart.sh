#!/usr/bin/env bash
# pytorch-lightning 2.6.6 (torch 2.15.0): ModelParallelStrategy, and a module of which fully_shard was given the network but not
# its head. One expects of a strategy that what is not sharded is kept equal, as DDP does it, or that it is refused. Its gradients
# are never averaged: from equal weights each process trains a head of its own, on its own share of the images. Nothing is
# said, and the checkpoint has the first process's head.
# Seen: heads that begin equal are unequal after one epoch of two processes; the sharded layer is equal.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q torch==2.15.0 pytorch-lightning==2.6.6 numpy==2.4.6
cd "$work"
cat > sharded.py <<'PYTHON'
import logging

import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader, TensorDataset

logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net, self.head = nn.Linear(4, 4), nn.Linear(4, 2)

    def configure_model(self):
        fully_shard(self.net, mesh=self.device_mesh["data_parallel"])

    def training_step(self, batch, batch_idx):
        return self.head(self.net(batch[0])).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def on_fit_start(self):
        self.begun = self.all_gather(self.head.weight.detach())

    def on_fit_end(self):
        heads = self.all_gather(self.head.weight.detach())
        whole = self.all_gather(self.net.weight.full_tensor().detach())
        if self.global_rank == 0:
            same = [torch.equal(*pair) for pair in (self.begun, heads, whole)]
            print("equal in both processes: head before, head after, sharded layer after:", same)
            assert same == [True, False, True]


pl.seed_everything(0, verbose=False)
trainer = pl.Trainer(
    accelerator="cpu",
    devices=2,
    strategy=ModelParallelStrategy(data_parallel_size=2, tensor_parallel_size=1),
    max_epochs=1,
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(Net(), DataLoader(TensorDataset(torch.randn(16, 4)), batch_size=4))
PYTHON
"$work/env/bin/python" -W ignore sharded.py
echo "as described"
