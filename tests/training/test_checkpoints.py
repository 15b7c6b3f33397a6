"""Checkpoints are replaced as a whole."""

from pathlib import Path

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from packnet_pl import fit_task
from packnet_pl.training import AtomicCheckpointIO
from tests.support.fits import OwnModule, fit_phase, loader, same, tensors


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_checkpoint_is_written_and_read_back(tmp_path):
    io, path = AtomicCheckpointIO(), tmp_path / "new" / "last.ckpt"
    io.save_checkpoint({"epoch": 3, "weights": torch.arange(4)}, path)
    read = io.load_checkpoint(path)
    assert read["epoch"] == 3
    assert torch.equal(read["weights"], torch.arange(4))
    assert names(path.parent) == ["last.ckpt"]


def test_a_newer_checkpoint_replaces_the_old_one(tmp_path):
    io, path = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    io.save_checkpoint({"epoch": 1}, str(path))
    io.save_checkpoint({"epoch": 2}, str(path))
    assert io.load_checkpoint(path) == {"epoch": 2}
    assert names(tmp_path) == ["last.ckpt"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=["disk full", "Ctrl-C"])
def test_a_write_that_fails_half_way_leaves_the_old_checkpoint_and_nothing_else(tmp_path, monkeypatch, error):
    io, path = AtomicCheckpointIO(), tmp_path / "last.ckpt"
    io.save_checkpoint({"epoch": 1}, path)
    before, written = path.read_bytes(), []

    def fail(place, data):
        with place.open("wb") as file:
            file.write(bytes(data)[:10])
        written.append(place)
        raise error

    monkeypatch.setattr(Path, "write_bytes", fail)
    with pytest.raises(type(error)):
        io.save_checkpoint({"epoch": 2}, path)
    assert len(written) == 1
    assert path.read_bytes() == before
    assert names(tmp_path) == ["last.ckpt"]


@pytest.mark.parametrize("where", [(torch, "save"), (Path, "write_bytes")], ids=["in torch", "on disk"])
def test_a_first_write_that_fails_leaves_nothing(tmp_path, monkeypatch, where):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(*where, fail)
    with pytest.raises(OSError, match="disk full"):
        AtomicCheckpointIO().save_checkpoint({}, tmp_path / "last.ckpt")
    assert names(tmp_path) == []


def test_options_that_it_does_not_know_are_refused_as_lightnings_own_does(tmp_path):
    with pytest.raises(TypeError, match="storage_options"):
        AtomicCheckpointIO().save_checkpoint({}, tmp_path / "last.ckpt", storage_options={"acl": "public"})
    assert names(tmp_path) == []


def test_a_trainer_writes_and_resumes_through_it(tmp_path):
    settings = {"plugins": [AtomicCheckpointIO()], "enable_checkpointing": True}
    checkpoints = ModelCheckpoint(tmp_path, filename="last", enable_version_counter=False)
    module = OwnModule(dropout=0)
    fit_phase(module, "a", "train", 0.5, callbacks=[checkpoints], max_epochs=2, **settings)
    assert names(tmp_path) == ["last.ckpt"]
    fresh = OwnModule(dropout=0)
    fit_phase(fresh, "a", "train", 0.5, ckpt_path=tmp_path / "last.ckpt", max_epochs=2, plugins=[AtomicCheckpointIO()])
    assert same(tensors(fresh), tensors(module))


def test_it_is_a_plugin_of_lightning():
    trainer = pl.Trainer(plugins=[AtomicCheckpointIO()], accelerator="cpu", logger=False, enable_checkpointing=False)
    assert isinstance(trainer.strategy.checkpoint_io, AtomicCheckpointIO)


def test_hyperparameters_that_are_no_plain_data_are_named_where_a_fit_goes_on(tmp_path):
    class Configured(OwnModule):
        def __init__(self, where=Path("data")):
            super().__init__()
            self.save_hyperparameters()

    module = Configured()
    path = tmp_path / "last.ckpt"
    settings = {"plugins": [AtomicCheckpointIO()], "enable_checkpointing": True}
    fit_phase(module, "a", ratio=0.5, callbacks=[ModelCheckpoint(tmp_path, filename="last")], **settings)
    before = tensors(module)
    said = r"last\.ckpt holds pathlib\.PosixPath, and is read as plain data.*add_safe_globals"
    with pytest.raises(ValueError, match=said):
        fit_task(
            module,
            loader(),
            task="a",
            prune_ratio=0.5,
            make_trainer=lambda *_: pytest.fail("made"),
            resume=("train", path),
        )
    with pytest.raises(ValueError, match=said):
        fit_phase(Configured(), "a", ratio=0.5, ckpt_path=path, **settings)
    assert same(tensors(module), before)
