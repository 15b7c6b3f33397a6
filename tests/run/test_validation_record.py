"""Accuracy on the validation split is recorded exactly, and not measured twice where Lightning has measured it."""

import pytest
import pytorch_lightning as pl
import torch
from torch.utils.data import TensorDataset

from packnet_pl import PackNetCallback, TaskClassifier
from packnet_pl.data import TaskData
from packnet_pl.models import vgg_small
from packnet_pl.run import validation_record
from packnet_pl.run.metrics import measure_together
from packnet_pl.run.validation_record import ValidationRecord
from packnet_pl.training import TaskDataModule

IMAGES = 37


def a_task():
    torch.manual_seed(0)
    splits = [TensorDataset(torch.randn(n, 1, 8, 8), torch.randint(3, (n,))) for n in (24, IMAGES, 6)]
    return TaskDataModule(TaskData(*splits, ("a", "b", "c"), (1, 8, 8), (0.0,), (1.0,)), key=(0, "task"), batch_size=8)


@pytest.mark.parametrize(
    ("settings", "measured"),
    [({}, 0), ({"limit_val_batches": 2}, 1), ({"check_val_every_n_epoch": 3}, 1), ({"precision": "bf16-mixed"}, 1)],
    ids=["whole", "in part", "not in the last epoch", "of another precision"],
)
def test_the_last_epoch_s_validation_is_recorded_where_it_is_the_same(monkeypatch, settings, measured):
    calls = []

    def counted(*args):
        calls.append(args)
        return measure_together(*args)

    monkeypatch.setattr(validation_record, "measure_together", counted)
    datamodule, expected = a_task(), []
    model = TaskClassifier(vgg_small(in_channels=1, image_size=8, stages=((4,), (6,)), hidden=8))
    model.add_task("task", num_classes=3)
    record = ValidationRecord({"task": datamodule})

    class Measures(pl.Callback):
        def on_train_end(self, trainer, pl_module):
            with pl_module.predicting("task") as predict:
                expected.append(measure_together(predict, datamodule, "val", 3).top1)

    pl.Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=2,
        callbacks=[
            record.callback("train"),
            PackNetCallback(task="task", phase="train", prune_ratio=0.5, private=model.private_modules("task")),
            Measures(),
        ],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        **settings,
    ).fit(model, datamodule)
    assert len(calls) == measured
    assert record.values == {"task": {"dense": expected[0], "pruned": None, "retrained": None}}
    assert expected[0] * IMAGES == pytest.approx(round(expected[0] * IMAGES))
