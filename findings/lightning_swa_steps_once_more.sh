#!/usr/bin/env bash
# pytorch-lightning 2.6.6 (torch 2.13.0): StochasticWeightAveraging. One expects that the weights after the fit are the average.
# They are, for a network without batch-norm. With batch-norm a further epoch gathers new statistics under the average, and
# at its end the optimizer, which has momentum left, takes one step more: the weights at the end are not the average.
# Seen: Identity True, BatchNorm1d False.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q torch==2.13.0 pytorch-lightning==2.6.6 numpy==2.4.6
cd "$work"
"$work/env/bin/python" -W ignore - <<'PYTHON'
import logging

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import StochasticWeightAveraging
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)


class Net(pl.LightningModule):
    def __init__(self, norm):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(4, 8), norm, nn.Linear(8, 2))

    def training_step(self, batch, _):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def ends_with_the_average(norm):
    torch.manual_seed(0)
    averaging = StochasticWeightAveraging(swa_lrs=0.1, swa_epoch_start=1)
    net = Net(norm)
    trainer = pl.Trainer(
        max_epochs=3,
        accelerator="cpu",
        callbacks=[averaging],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(net, DataLoader(TensorDataset(torch.randn(32, 4), torch.randint(2, (32,))), batch_size=8))
    pairs = zip(net.parameters(), averaging._average_model.parameters(), strict=True)
    return all(torch.equal(now, average) for now, average in pairs)


found = {type(norm).__name__: ends_with_the_average(norm) for norm in (nn.Identity(), nn.BatchNorm1d(8))}
print(found)
assert found == {"Identity": True, "BatchNorm1d": False}
PYTHON
echo "as described"
