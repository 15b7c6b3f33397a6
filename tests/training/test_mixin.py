"""A user's own module keeps its tasks in its checkpoints."""

import warnings
from pathlib import Path, PosixPath

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint

from packnet_pl import PackNet, PackNetMixin, fit_task
from tests.support.fits import OwnModule, bits, fit_own, fit_phase, images, loader, quiet, same, tensors


class Kept(PackNetMixin, OwnModule):
    """The same module, with the mixin."""


def finish(module, task, **kwargs):
    """Takes a task to its end; returns what fit_task does."""
    module.task = task
    return fit_task(
        module,
        loader(ord(task)),
        task=task,
        prune_ratio=0.5,
        private=f"heads.{task}",
        make_trainer=lambda _, callback: quiet(callback),
        **kwargs,
    )


def answer(module, task):
    module.eval()
    module.task = task
    with module.packnet.subnetwork(task), torch.no_grad():
        return bits(module(images()))


def test_the_tasks_come_back_with_load_from_checkpoint_the_last_finished_one_too(tmp_path):
    module = Kept()
    finish(module, "a")
    finish(module, "b").save_checkpoint(tmp_path / "b.ckpt")
    wanted = {task: answer(module, task) for task in "ab"}
    loaded = Kept.load_from_checkpoint(tmp_path / "b.ckpt", weights_only=True, strict=True)
    assert loaded.packnet.tasks == ["a", "b"]
    assert loaded.packnet.private == {"a": ["heads.a"], "b": ["heads.b"]}
    finish(loaded, "c")
    assert same({task: answer(loaded, task) for task in "ab"}, wanted)
    assert Kept().state_dict().keys() == OwnModule().state_dict().keys()


def test_hyperparameters_that_are_no_plain_data_are_named_by_load_from_checkpoint(tmp_path):
    class Configured(Kept):
        def __init__(self, where=Path("data")):
            super().__init__()
            self.save_hyperparameters()

    finish(Configured(), "a").save_checkpoint(path := tmp_path / "a.ckpt")
    with pytest.raises(ValueError, match=r"a\.ckpt holds pathlib\.PosixPath, and is read.*add_safe_globals"):
        Configured.load_from_checkpoint(path)
    assert Configured.load_from_checkpoint(path, weights_only=False).packnet.tasks == ["a"]
    with torch.serialization.safe_globals([PosixPath]):
        assert Configured.load_from_checkpoint(path, where=3).packnet.tasks == ["a"]


@pytest.mark.parametrize("settings", [{"save_weights_only": True}, {}], ids=["weights only", "whole"])
def test_an_open_task_comes_back_from_a_checkpoint_within_the_fit(tmp_path, settings):
    module = Kept()
    finish(module, "a")
    epochs = ModelCheckpoint(tmp_path, filename="last", **settings)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*load_from_checkpoint")
        fit_phase(module, "b", ratio=0.5, callbacks=[epochs], enable_checkpointing=True)
    loaded = Kept.load_from_checkpoint(tmp_path / "last.ckpt", weights_only=True)
    assert (loaded.packnet.tasks, loaded.packnet.open_task, loaded.packnet.phase) == (["a"], "b", "train")
    loaded.packnet.verify(loaded)


def test_a_trainer_that_never_heard_of_packnet_writes_them_too(tmp_path):
    module, trainer = Kept(), quiet()
    finish(module, "a")
    trainer.test(module, loader(), verbose=False)
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    loaded = Kept.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    assert loaded.packnet.tasks == ["a"]
    assert same(tensors(loaded), tensors(module))


def test_hooks_of_the_user_s_own_go_on_working(tmp_path):
    class Both(Kept):
        def on_save_checkpoint(self, checkpoint):
            super().on_save_checkpoint(checkpoint)
            checkpoint["seen"] = 3

        def on_load_checkpoint(self, checkpoint):
            super().on_load_checkpoint(checkpoint)
            self.seen = checkpoint["seen"]

    finish(Both(), "a").save_checkpoint(tmp_path / "a.ckpt")
    loaded = Both.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    assert (loaded.seen, loaded.packnet.tasks) == (3, ["a"])


@pytest.mark.parametrize("hook", ["on_save_checkpoint", "on_load_checkpoint"])
def test_a_hook_that_hides_the_mixin_s_is_refused_when_the_class_is_made(hook):
    with pytest.raises(TypeError, match=rf"Hiding\.{hook} hides that of PackNetMixin: call super\(\)\.{hook}"):
        type("Hiding", (Kept,), {hook: lambda self, checkpoint: checkpoint.clear()})


def test_a_mixin_behind_the_module_is_refused_when_the_class_is_made():
    with pytest.raises(TypeError, match=r"class Late\(PackNetMixin, LightningModule\)"):
        type("Late", (pl.LightningModule, PackNetMixin), {})


def test_a_checkpoint_without_tasks_is_weights_and_says_so(tmp_path):
    module, trainer = OwnModule(), quiet()
    trainer.test(module, loader(), verbose=False)
    trainer.save_checkpoint(tmp_path / "plain.ckpt")
    with pytest.warns(UserWarning, match="holds no PackNet state: its weights are loaded"):
        loaded = Kept.load_from_checkpoint(tmp_path / "plain.ckpt", weights_only=True)
    assert loaded.packnet.tasks == []
    assert same(tensors(loaded), tensors(module))


def test_without_the_mixin_it_is_said_when_checkpoints_are_written_and_when_the_tasks_are_about_to_be_lost(tmp_path):
    module = OwnModule()
    with pytest.warns(UserWarning, match=r"OwnModule\.load_from_checkpoint\(\) will know no task .*PackNetMixin"):
        finish(module, "a").save_checkpoint(tmp_path / "a.ckpt")
    loaded = OwnModule.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    with pytest.warns(UserWarning, match="50% of the weights of the shared SmallNet are exactly zero"):
        finish(loaded, "b")
    loaded = OwnModule()
    loaded.load_state_dict(module.state_dict())
    with pytest.warns(UserWarning, match="if tasks were trained in it, they will be lost"):
        finish(loaded, "b")


def test_a_new_network_with_layers_of_zeros_and_one_that_knows_its_tasks_are_fitted_without_a_warning():
    module = OwnModule()
    torch.nn.init.zeros_(module.backbone.fc.weight)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message=".*exactly zero")
        fit_own(module, "a", ratio=0.75)
        fit_own(module, "b")
    assert isinstance(module.packnet, PackNet)
