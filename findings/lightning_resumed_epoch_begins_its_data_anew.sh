#!/usr/bin/env bash
# pytorch-lightning 2.6.6 (torch 2.15.0): a fit that is resumed from a checkpoint within an epoch. One expects that it goes on with
# the batches that the epoch has left: the loop does count on from there. The plain DataLoader begins anew, so the batches of
# the first half are trained on twice, under the numbers of the second half, and those of the second half never. No error:
# a warning speaks of "unreliable results", and the number of steps is as if nothing had happened.
# Seen: batches 0 to 3 before, and after resuming batch_idx 4 to 7 with the data of batches 0 to 3; 8 steps.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q torch==2.15.0 pytorch-lightning==2.6.6 numpy==2.4.6
cd "$work"
"$work/env/bin/python" -W ignore - <<'PYTHON'
import logging

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)


class Net(pl.LightningModule):
    def __init__(self, killed_after=None):
        super().__init__()
        self.net, self.seen, self.killed_after = nn.Linear(1, 1), [], killed_after

    def training_step(self, batch, batch_idx):
        if batch_idx == self.killed_after:
            raise RuntimeError("killed")
        self.seen.append((batch_idx, int(batch[0])))
        return self.net(batch[0][:, None]).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.001)


def fit(net, ckpt_path=None):
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        callbacks=[ModelCheckpoint(".", filename="half", every_n_train_steps=4, save_top_k=-1)],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(net, DataLoader(TensorDataset(torch.arange(8.0)), batch_size=1), ckpt_path=ckpt_path)
    return trainer.global_step


before = Net(killed_after=4)
try:
    fit(before)
except RuntimeError as error:
    assert str(error) == "killed"
after = Net()
steps = fit(after, ckpt_path="half.ckpt")
print(f"(batch_idx, data) before: {before.seen}; after resuming: {after.seen}; {steps} steps")
assert before.seen == [(i, i) for i in range(4)]
assert after.seen == [(i + 4, i) for i in range(4)] and steps == 8
PYTHON
echo "as described"
