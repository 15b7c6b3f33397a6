"""Checkpoints of sharded networks: wherever saving ends, the earlier one or the later one is found, whole."""

import errno
import os
import pickle
import shutil
from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from pytorch_lightning.strategies import ModelParallelStrategy
from torch import nn
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader, TensorDataset

from packnet_pl import PackNet, PackNetCallback, PackNetMixin
from packnet_pl.checkpoint_reading import read_checkpoint
from packnet_pl.core.plain_shards import load_shards_
from packnet_pl.sharded_files import copy_shards, describe_shards, move_checkpoint
from packnet_pl.training import AtomicCheckpointIO, ShardedStrategy
from packnet_pl.training.sharded_strategy import checkpoint_folder


class Module(pl.LightningModule):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.net = nn.Sequential(nn.Linear(4, 7), nn.BatchNorm1d(7), nn.ReLU(), nn.Linear(7, 2))

    def configure_model(self):
        fully_shard(self.net, mesh=self.device_mesh["data_parallel"])

    def training_step(self, batch, batch_idx):
        return self.net(batch[0]).square().mean()

    def configure_optimizers(self):
        return torch.optim.AdamW(self.parameters(), lr=0.1)


def fit(epochs, checkpoint=None):
    """Returns a Trainer after a fit in one process, all of whose rows it has."""
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        strategy=ShardedStrategy(),
        max_epochs=epochs,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        enable_checkpointing=False,
    )
    images = torch.randn(16, 4, generator=torch.Generator().manual_seed(1))
    loader = DataLoader(TensorDataset(images), batch_size=4)
    trainer.fit(Module(), loader, ckpt_path=checkpoint, weights_only=True if checkpoint else None)
    return trainer


def bits(trainer):
    return [tensor.detach().full_tensor() for tensor in trainer.lightning_module.parameters()]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


@pytest.fixture(scope="module")
def trainers():
    """Fits of one, two and three epochs."""
    yield [fit(epochs) for epochs in (1, 2, 3)]
    dist.destroy_process_group()


def test_a_resumed_fit_ends_as_one_that_was_not_killed(tmp_path, trainers):
    path = tmp_path / "last.ckpt"
    trainers[0].save_checkpoint(path)
    assert same(bits(fit(2, path)), bits(trainers[1]))
    assert not same(bits(trainers[0]), bits(trainers[1]))


class Killed(BaseException):
    pass


@pytest.mark.parametrize("error", [Killed(), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))], ids=["killed", "full"])
def test_wherever_saving_ends_the_earlier_or_the_later_checkpoint_is_found(tmp_path, trainers, monkeypatch, error):
    first, second, _ = trainers
    path, found, failures = tmp_path / "last.ckpt", set(), 0
    for fails_at in range(1, 99):
        first.save_checkpoint(path)
        count = 0

        def step(call, fails_at=fails_at):
            def called(*args, **kwargs):
                nonlocal count
                count += 1
                if count == fails_at:
                    raise error
                return call(*args, **kwargs)

            return called

        with monkeypatch.context() as patch:
            for owner, name in [(os, "fsync"), (os, "replace"), (Path, "replace"), (Path, "rename"), (Path, "open")]:
                patch.setattr(owner, name, step(getattr(owner, name)))
            if isinstance(error, Killed):  # who is killed cleans up nothing
                patch.setattr(shutil, "rmtree", step(lambda *args, **kwargs: None))
            try:
                second.save_checkpoint(path)
            except type(error):
                failures += 1
            else:
                break
        folder = checkpoint_folder(path)
        now = bits(fit(1, path)) if read_checkpoint(path)["epoch"] == 1 else bits(fit(2, path))
        assert same(now, bits(first)) or same(now, bits(second))
        found.add(read_checkpoint(path)["epoch"])
        if not isinstance(error, Killed):
            assert list(tmp_path.glob("*.shards")) == [folder]
    assert failures >= 6
    assert found == ({1, 2} if isinstance(error, Killed) else {1})
    second.save_checkpoint(path)
    assert sorted(file.name for file in tmp_path.iterdir()) == [checkpoint_folder(path).name, "last.ckpt"]


@pytest.mark.parametrize("name", [".metadata", "__0_0.distcp", "meta.pt", "last.ckpt"])
def test_a_truncated_file_is_named_in_one_line(tmp_path, trainers, name):
    path = tmp_path / "last.ckpt"
    trainers[0].save_checkpoint(path)
    file = path if name == "last.ckpt" else checkpoint_folder(path) / name
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(ValueError, match=r"last.ckpt is damaged") as caught:
        fit(2, path)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_that_is_renamed_or_copied_takes_its_folder_along(tmp_path, trainers):
    path, moved, copied = (tmp_path / f"{name}.ckpt" for name in ("last", "replaced", "copied"))
    trainers[0].save_checkpoint(path)
    move_checkpoint(path, moved)
    copy_shards(moved, copied, read_checkpoint(moved))
    shutil.copyfile(moved, copied)
    trainers[1].save_checkpoint(path)
    assert [len(list(tmp_path.glob(f"{name}-*.shards"))) for name in ("last", "replaced", "copied")] == [1, 1, 1]
    for found in (moved, copied):
        assert same(bits(fit(2, found)), bits(trainers[1]))


def test_a_trainer_without_shards_refuses_it_in_one_line(tmp_path, trainers):
    path = tmp_path / "last.ckpt"
    trainers[0].save_checkpoint(path)
    with pytest.raises(ValueError, match="was written by processes that each had a part of the network") as caught:
        AtomicCheckpointIO().load_checkpoint(path, weights_only=True)
    assert "\n" not in str(caught.value)


class Runs:
    def __reduce__(self):
        return print, ("code of a file was run",)


def test_no_code_of_an_index_is_run(tmp_path, trainers, capsys):
    path = tmp_path / "last.ckpt"
    trainers[0].save_checkpoint(path)
    folder = checkpoint_folder(path)
    (folder / ".metadata").write_bytes(pickle.dumps(Runs()))
    torch.save({**read_checkpoint(path), "shards": describe_shards(folder)}, path)
    with pytest.raises(ValueError, match="no index of a checkpoint: it names builtins") as caught:
        fit(2, path)
    assert "code of a file was run" not in capsys.readouterr().out
    assert "\n" not in str(caught.value)


def test_no_code_of_a_value_is_run(tmp_path, trainers, capsys):
    dcp.save({"value": Runs()}, checkpoint_id=tmp_path)
    with pytest.raises(ValueError, match="value holds more than plain values") as caught:
        load_shards_({"value": None}, tmp_path)
    assert "code of a file was run" not in capsys.readouterr().out
    assert "\n" not in str(caught.value)


class Packed(PackNetMixin, Module):
    def __init__(self):
        super().__init__()
        self.packnet = PackNet(self.net)


class Whole(Packed):
    def configure_model(self):
        pass


@pytest.mark.parametrize(
    ("make", "strategy"),
    [(Whole, "auto"), (Packed, ModelParallelStrategy(data_parallel_size=1, tensor_parallel_size=1))],
    ids=["one process", "Lightning's strategy"],
)
def test_a_strategy_that_does_not_know_the_folder_refuses_it_in_one_line(tmp_path, make, strategy):
    def trainer(strategy):
        callback = PackNetCallback(task="a", phase="train")
        quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
        return pl.Trainer(accelerator="cpu", devices=1, strategy=strategy, max_steps=1, callbacks=[callback], **quiet)

    def start(strategy, make, path=None):
        used = trainer(strategy)
        used.fit(make(), DataLoader(TensorDataset(torch.ones(4, 4)), batch_size=4), ckpt_path=path, weights_only=True)
        return used

    path = tmp_path / "last.ckpt"
    start(ShardedStrategy(), Packed).save_checkpoint(path)
    with pytest.raises(ValueError, match="was written by processes that each had a part of the network") as caught:
        start(strategy, make, path)
    assert "\n" not in str(caught.value)
