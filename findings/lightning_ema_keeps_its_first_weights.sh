#!/usr/bin/env bash
# pytorch-lightning 2.6.6 (torch 2.15.0): EMAWeightAveraging after a short fit. One expects that what it leaves lies near the
# weights of the last steps, as averages elsewhere correct for their beginning, or let their decay grow. Its decay is the same
# from the first step on, and the average begins as the weights after step 1: after 500 steps at the default of 0.999 they are
# 61 % of what is kept, and validated. Nothing says so.
# Seen: a weight that begins at 0 is 1.000 when trained; kept are 0.449 by default, and 0.993 at a decay of 0.99.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q torch==2.15.0 pytorch-lightning==2.6.6 numpy==2.4.6
cd "$work"
"$work/env/bin/python" -W ignore - <<'PYTHON'
import logging

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def training_step(self, batch, batch_idx):
        return (self.weight - 1).square()

    def on_train_batch_end(self, *_):
        self.trained = self.weight.item()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.05)


def fit(**settings):
    net = Net()
    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        callbacks=[EMAWeightAveraging(**settings)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(net, DataLoader(TensorDataset(torch.zeros(500)), batch_size=1))
    assert trainer.global_step == 500
    return round(net.trained, 3), round(net.weight.item(), 3)


default, faster = fit(), fit(decay=0.99)
print(f"trained, kept: {default} by default, {faster} at a decay of 0.99")
assert default[0] == faster[0] == 1.0
assert default[1] < 0.5 and faster[1] > 0.95
PYTHON
echo "as described"
