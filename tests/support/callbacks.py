"""Callbacks that look on while a module is fitted."""

import pytorch_lightning as pl
from pytorch_lightning.callbacks import ModelCheckpoint


class AfterSteps(pl.Callback):
    """Calls a function after every batch."""

    def __init__(self, look):
        self.look, self.calls = look, 0

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.calls += 1
        self.look(pl_module)


def every_epoch(folder):
    return ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1, save_last=True)
