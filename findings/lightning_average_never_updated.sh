#!/usr/bin/env bash
# pytorch-lightning 2.6.6 (torch 2.13.0): EMAWeightAveraging(update_starting_at_step=N) in a fit of fewer than N steps. One expects
# the trained weights at the end, as nothing was averaged. on_train_end copies the average over them all the same, and
# the average is still the copy of the module from before the first step: the fit is undone, without a word.
# Seen: "moved while training: True; back at the initial weights at the end: True".
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/env"
"$work/env/bin/pip" install -q torch==2.13.0 pytorch-lightning==2.6.6 numpy==2.4.6
cd "$work"
"$work/env/bin/python" -W ignore - <<'PYTHON'
import logging

import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging
from torch.utils.data import DataLoader, TensorDataset

logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)


class Line(pl.LightningModule):
    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(3, 1)
        self.moved = False

    def training_step(self, batch, _):
        self.moved = self.moved or not torch.equal(self.layer.weight, before)
        return self.layer(batch[0]).square().mean()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)


torch.manual_seed(0)
module = Line()
before = module.layer.weight.detach().clone()
trainer = pl.Trainer(
    max_steps=20,
    callbacks=[EMAWeightAveraging(update_starting_at_step=1000)],
    accelerator="cpu",
    logger=False,
    enable_checkpointing=False,
    enable_progress_bar=False,
    enable_model_summary=False,
)
trainer.fit(module, DataLoader(TensorDataset(torch.randn(64, 3)), batch_size=8))
undone = torch.equal(module.layer.weight, before)
print(f"moved while training: {module.moved}; back at the initial weights at the end: {undone}")
assert module.moved and undone
PYTHON
echo "as described"
