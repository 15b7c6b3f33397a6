"""The same random numbers in each step, however the run got there."""

import random

import numpy as np
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from packnet_pl.data import TaskData
from packnet_pl.training import Reseed, TaskDataModule
from tests.support.fits import OwnModule, fit_phase, same, samples, tensors


class Numbers(pl.Callback):
    """Draws from all three generators in some step of each epoch."""

    def __init__(self, batch):
        self.batch, self.drawn = batch, []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == self.batch:
            self.drawn.append((torch.rand(2).tolist(), np.random.rand(), random.random()))


def drawn(folder=None, seed=0, task="a", phase="train", epochs=3, ckpt_path=None, batch=0, more=()):
    numbers = Numbers(batch)
    callbacks = [*more, Reseed(seed=seed, task=task, phase=phase), numbers]
    if folder:
        callbacks.append(ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1))
    module = OwnModule()
    data = TaskData(samples(0), samples(1), samples(2), ("x", "y", "z"), (1, 6, 6), (0.0,), (1.0,))
    settings = {"max_epochs": epochs, "enable_checkpointing": bool(folder), "ckpt_path": ckpt_path}
    settings["data"] = TaskDataModule(data, key=(seed, task, phase), batch_size=8)
    fit_phase(module, "a", "train", 0.5, callbacks=callbacks, **settings)
    return numbers.drawn, module


def test_every_epoch_has_its_own_numbers():
    found, _ = drawn()
    assert len(found) == 3
    for one in range(3):
        for other in range(one):
            assert all(left != right for left, right in zip(found[one], found[other], strict=True))


def test_they_do_not_depend_on_what_was_drawn_before():
    torch.manual_seed(1)
    random.seed(1)
    expected, _ = drawn()
    torch.manual_seed(2)
    random.seed(2)
    np.random.seed(2)
    assert drawn()[0] == expected


def test_every_batch_has_its_own_numbers_whatever_the_batches_before_it_drew():
    class Draws(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            torch.rand(batch_idx + 1)
            np.random.rand(2)
            random.random()

    found = [drawn(epochs=1, batch=batch)[0][0] for batch in range(3)]
    assert len({str(numbers) for numbers in found}) == 3
    assert [drawn(epochs=1, batch=batch, more=[Draws()])[0][0] for batch in range(3)] == found


def test_they_depend_on_seed_task_and_phase():
    keys = [{}, {"seed": 1}, {"task": "b"}, {"phase": "retrain"}]
    first = [drawn(epochs=1, **key)[0][0] for key in keys]
    assert len({str(numbers) for numbers in first}) == 4


def test_a_resumed_run_with_dropout_draws_the_same_and_ends_bit_identical(tmp_path):
    torch.manual_seed(0)
    expected, module = drawn(tmp_path)
    torch.manual_seed(77)
    found, fresh = drawn(ckpt_path=tmp_path / "epoch=0.ckpt")
    assert found == expected[1:]
    assert same(tensors(fresh), tensors(module))
