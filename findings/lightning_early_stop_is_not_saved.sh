#!/usr/bin/env bash
# pytorch-lightning 2.6.6 (torch 2.13.0): EarlyStopping and a fit that is resumed. One expects that a fit which early stopping
# ended stays ended when it is called again with the checkpoint of its last epoch: the callback's state, with how long it has
# waited, is in there. That the fit was stopped is not: it trains one epoch more, and its weights are others.
# Seen: 2 epochs, then 3 after resuming, of 10.
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q torch==2.13.0 pytorch-lightning==2.6.6 numpy==2.4.6
cd "$work"
"$work/env/bin/python" -W ignore - <<'PYTHON'
import logging

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)


class Net(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.net, self.epochs = nn.Linear(4, 2), 0

    def training_step(self, batch, _):
        return nn.functional.cross_entropy(self.net(batch[0]), batch[1])

    def on_train_epoch_start(self):
        self.epochs += 1

    def on_train_epoch_end(self):
        self.log("never_better", 1.0)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(ckpt_path=None):
    torch.manual_seed(0)
    net = Net()
    trainer = pl.Trainer(
        max_epochs=10,
        accelerator="cpu",
        callbacks=[
            EarlyStopping("never_better", patience=1, check_on_train_epoch_end=True),
            ModelCheckpoint(".", filename="last_epoch", every_n_epochs=1, save_on_train_epoch_end=True, enable_version_counter=False),
        ],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(net, DataLoader(TensorDataset(torch.randn(8, 4), torch.randint(2, (8,))), batch_size=4), ckpt_path=ckpt_path)
    return trainer.current_epoch, net.net.weight.detach().clone()


epochs, weight = fit()
again, moved = fit("last_epoch.ckpt")
print(f"{epochs} epochs, then {again} after resuming; the same weights: {torch.equal(weight, moved)}")
assert (epochs, again) == (2, 3) and not torch.equal(weight, moved)
PYTHON
echo "as described"
