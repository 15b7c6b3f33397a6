"""Snapshots of a few filters: they equal the weights and owners of the moment, also over a stop and in any loop."""

import pytest
import pytorch_lightning as pl
import torch
from torch import nn

from packnet_pl import PackNet, PackNetCallback
from packnet_pl.core.watched_filters import choose_filters
from packnet_pl.filter_history import FilterHistory, WatchedFilter, read_filters, write_filters
from packnet_pl.training import FilterSnapshots, TaskObserver
from tests.support.fits import OwnModule, SaveAndStop, StoppedError, fit_own, fit_phase, loader
from tests.support.trainers import quiet


class Seen(TaskObserver):
    """Whole weights and owners at each moment."""

    def __init__(self):
        self.moments = {}

    def on_moment(self, trainer, pl_module, task, moment):
        weight = pl_module.backbone.conv.weight.detach().clone()
        self.moments[task, moment] = weight, pl_module.packnet.owners["conv.weight"]


@pytest.mark.parametrize("first", [True, False])
def test_a_snapshot_is_the_weights_and_owners_of_its_moment(first):
    module, seen, snapshots = OwnModule(), Seen(), FilterSnapshots()
    callbacks = [seen, snapshots] if first else [snapshots, seen]
    fit_own(module, "a", callbacks=callbacks)
    fit_own(module, "b", callbacks=callbacks)
    fit_own(module, "c", None, callbacks=callbacks)
    history = snapshots.history
    moments = [(s.task, s.moment) for s in history.snapshots]
    assert moments == [
        *((task, moment) for task in "ab" for moment in ("dense", "pruned", "retrained")),
        ("c", "dense"),
    ]
    assert [watched.layer for watched in history.filters] == ["conv.weight"] * 4
    for snapshot in history.snapshots:
        weight, owners = seen.moments[snapshot.task, snapshot.moment]
        assert snapshot.tasks == tuple("abc"[: "abc".index(snapshot.task) + 1])
        for watched, values, owned in zip(history.filters, snapshot.values, snapshot.owners, strict=True):
            assert torch.equal(torch.tensor(values), weight[watched.index])
            assert torch.equal(torch.tensor(owned, dtype=torch.uint8), owners[watched.index])


def test_what_was_pruned_is_free_and_zero_and_the_rest_as_it_was():
    module, snapshots = OwnModule(), FilterSnapshots()
    fit_own(module, "a", callbacks=[snapshots])
    dense, pruned, retrained = snapshots.history.snapshots
    for index in range(len(snapshots.history.filters)):
        before, after, later = (torch.tensor(s.values[index]) for s in (dense, pruned, retrained))
        kept = torch.tensor(pruned.owners[index]) == 1
        assert (torch.tensor(dense.owners[index]) == 1).all()
        assert torch.equal(after, torch.where(kept, before, 0.0))
        assert (later[~kept] == 0).all()
        assert not torch.equal(later, after)
    assert pruned.owners == retrained.owners


class Epochs(pl.Callback):
    """Keeps the convolution of every epoch, as validation saw it."""

    def __init__(self):
        self.seen = []

    def on_validation_end(self, trainer, pl_module):
        self.seen.append(pl_module.backbone.conv.weight.detach().clone())


def test_of_the_best_epoch_its_weights_are_recorded():
    module, epochs, snapshots = OwnModule(), Epochs(), FilterSnapshots()
    module.val_scores = [0.3, 0.9, 0.1]
    callback = PackNetCallback(task="a", phase="train", prune_ratio=0.5, private="heads.a", select="best")
    trainer = quiet(snapshots, callback, epochs, max_epochs=3, num_sanity_val_steps=0)
    trainer.fit(module, loader(), loader())
    dense = torch.tensor(snapshots.history.snapshots[0].values)
    assert torch.equal(dense, epochs.seen[1][[watched.index[0] for watched in snapshots.history.filters], 0])
    assert not torch.equal(epochs.seen[1], epochs.seen[2])


def test_in_a_loop_without_lightning_snapshots_are_taken_by_hand():
    packnet = OwnModule().packnet
    snapshots = FilterSnapshots([WatchedFilter("conv.weight", (2, 0), (3, 3))])
    packnet.begin_task("a")
    snapshots.take(packnet, "a", "dense")
    packnet.prune(0.5)
    for _ in range(2):  # the second takes the place of the first
        snapshots.take(packnet, "a", "pruned")
    assert [snapshot.moment for snapshot in snapshots.history.snapshots] == ["dense", "pruned"]
    values, owners = snapshots.history.snapshots[1].values[0], snapshots.history.snapshots[1].owners[0]
    assert torch.equal(torch.tensor(values), packnet.module.conv.weight[2, 0])
    assert torch.equal(torch.tensor(owners), packnet.owners["conv.weight"][2, 0].long())


def test_a_fit_that_was_stopped_and_resumed_ends_with_the_same_history(tmp_path):
    def history(stop):
        torch.manual_seed(0)
        module, snapshots = OwnModule(dropout=0.0), FilterSnapshots()
        fit_phase(module, "a", "train", 0.5, callbacks=[snapshots], max_epochs=2)
        fit = {"callbacks": [snapshots], "max_epochs": 2}
        if stop:
            with pytest.raises(StoppedError):
                fit_phase(module, "a", "retrain", callbacks=[snapshots, SaveAndStop(tmp_path / "c.ckpt")], max_epochs=2)
            module, snapshots = OwnModule(dropout=0.0), FilterSnapshots()
            fit = {"callbacks": [snapshots], "max_epochs": 2, "ckpt_path": tmp_path / "c.ckpt"}
        fit_phase(module, "a", "retrain", **fit)
        return snapshots.history

    assert history(stop=True) == history(stop=False)


def test_a_history_is_read_as_it_was_written_and_refused_otherwise(tmp_path):
    module, snapshots = OwnModule(), FilterSnapshots()
    for task in "ab":
        fit_own(module, task, callbacks=[snapshots])
        write_filters(tmp_path / task, snapshots.history.of(task))
    assert FilterHistory.joined(read_filters(tmp_path / task) for task in "ab") == snapshots.history
    (tmp_path / "a").write_text((tmp_path / "a").read_text().replace('"dense"', '"dance"', 1))
    with pytest.raises(ValueError, match=r"is not a history of filters, or is damaged: .*dance"):
        read_filters(tmp_path / "a")


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (
            [nn.Conv2d(3, 8, 7), nn.Conv2d(8, 8, 1), nn.Conv2d(8, 2, 3)],
            [("0.weight", (7, 7))] * 4 + [("2.weight", (3, 3))] * 2,
        ),
        ([nn.Conv2d(3, 64, 16), nn.Linear(64, 7)], [("0.weight", (5, 5))] * 4 + [("1.weight", (5, 5))] * 3),
        ([nn.Linear(4, 3)], [("0.weight", (3, 4))]),
        ([nn.Conv3d(1, 4, 5), nn.ConvTranspose2d(4, 4, 11)], [("0.weight", (5, 5))] * 4 + [("1.weight", (11, 11))] * 4),
    ],
)
def test_filters_are_kernels_or_where_there_are_none_blocks(layers, expected):
    packnet = PackNet(nn.Sequential(*layers))
    filters = choose_filters(packnet)
    assert [(watched.layer, watched.size) for watched in filters] == expected
    assert len({(watched.layer, watched.index) for watched in filters}) == len(filters)
    packnet.begin_task("a")
    snapshots = FilterSnapshots()
    snapshots.take(packnet, "a", "dense")
    assert [len(grid) for grid in snapshots.history.snapshots[0].values] == [rows for _, (rows, _) in expected]


@pytest.mark.parametrize(
    "watched",
    [
        WatchedFilter("conv.bias", (0, 0), (3, 3)),
        WatchedFilter("conv.weight", (4, 0), (3, 3)),
        WatchedFilter("conv.weight", (0, -1), (3, 3)),
        WatchedFilter("conv.weight", (0, 0), (5, 5)),
        WatchedFilter("fc.weight", (3, 0), (4, 4)),
    ],
)
def test_a_filter_that_is_not_there_is_refused(watched):
    module = OwnModule()
    with pytest.raises(ValueError, match=watched.layer):
        FilterSnapshots([watched]).take(module.packnet, "a", "dense")


def test_nothing_is_recorded_of_a_fit_that_failed():
    module, snapshots = OwnModule(), FilterSnapshots()

    class Failing(pl.Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            raise StoppedError

    with pytest.raises(StoppedError):
        fit_phase(module, "a", "train", 0.5, callbacks=[snapshots, Failing()])
    assert snapshots.history == FilterHistory()


def test_low_precision_is_written_exactly(tmp_path):
    packnet = PackNet(nn.Sequential(nn.Conv2d(1, 4, 3)).to(torch.bfloat16))
    packnet.begin_task("a")
    snapshots = FilterSnapshots()
    snapshots.take(packnet, "a", "dense")
    write_filters(tmp_path / "f.json", snapshots.history)
    values = torch.tensor(read_filters(tmp_path / "f.json").snapshots[0].values, dtype=torch.bfloat16)
    assert torch.equal(values, packnet.module[0].weight[:, 0])
