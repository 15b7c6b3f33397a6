"""Both phases of a task."""

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from training_toys import MOMENTUM, OwnModule, Spoiler, bits, fit_own, fit_phase, loader, picture, quiet, same, tensors

from packnet_pl import PackNetCallback, fit_task


def fit(module, task, phases, ratio=0.5, **kwargs):
    def make_trainer(phase, callback):
        phases.append((phase, callback.phase, callback.prune_ratio))
        return quiet(callback)

    module.task = task
    fit_task(module, loader(), task=task, prune_ratio=ratio, make_trainer=make_trainer, **kwargs)


def test_a_task_is_trained_pruned_retrained_and_finished():
    module, phases = OwnModule(), []
    fit(module, "a", phases)
    assert phases == [("train", "train", 0.5), ("retrain", "retrain", None)]
    assert module.packnet.tasks == ["a"]
    assert module.packnet.summary().total.free == 18 + 48


def test_without_a_ratio_there_is_no_retraining():
    module, phases = OwnModule(), []
    fit(module, "a", phases, ratio=None)
    assert phases == [("train", "train", None)]
    assert module.packnet.tasks == ["a"]


def test_a_ratio_of_zero_is_a_ratio():
    module, phases = OwnModule(), []
    fit(module, "a", phases, ratio=0.0)
    assert [phase for phase, *_ in phases] == ["train", "retrain"]
    assert module.packnet.summary().total.free == 0


@pytest.mark.parametrize("ratio", [0.5, None])
def test_a_task_that_was_pruned_already_goes_on_with_retraining(ratio):
    module, phases = OwnModule(), []
    fit_phase(module, "a", "train", 0.25)
    fit(module, "a", phases, ratio=ratio)
    assert phases == [("retrain", "retrain", None)]
    assert module.packnet.tasks == ["a"]
    assert module.packnet.summary().total.free == 9 + 24


def test_a_task_that_was_interrupted_in_training_goes_on_there():
    module, phases = OwnModule(), []

    def fail(*_):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fit_own(module, "a", callbacks=[Spoiler(fail)])
    fit(module, "a", phases)
    assert [phase for phase, *_ in phases] == ["train", "retrain"]
    assert module.packnet.tasks == ["a"]


@pytest.mark.parametrize("ratio", [0.5, None])
def test_settled_is_called_once_when_the_weights_are_final(ratio):
    module, seen = OwnModule(), []

    def settled(given):
        assert given is module
        seen.append((module.packnet.tasks, module.packnet.open_task, tensors(module)))

    fit(module, "a", [], ratio=ratio, settled=settled)
    ((finished, opened, weights),) = seen
    assert (finished, opened) == ([], "a")
    assert same(tensors(module), weights)


def test_scope_and_private_reach_the_callback():
    module = OwnModule()
    with torch.no_grad():
        module.backbone.conv.weight.mul_(1000)
    fit(module, "a", [], scope="global", private=["heads.a", "heads.b"])
    assert module.packnet.private == {"a": ["heads.a", "heads.b"]}
    assert {name: share.free for name, share in module.packnet.summary().layers.items()} == {
        "conv.weight": 0,
        "fc.weight": 66,
    }


def test_select_reaches_both_callbacks():
    module, selected = OwnModule(), []
    module.task = "a"

    def make_trainer(phase, callback):
        selected.append(callback.best is not None)
        return quiet(callback, num_sanity_val_steps=0)

    fit_task(module, loader(), task="a", prune_ratio=0.5, make_trainer=make_trainer, select="best")
    assert selected == [True, True]


def test_a_trainer_without_the_callback_is_refused_and_nothing_is_trained():
    module = OwnModule()
    before = picture(module)
    with pytest.raises(ValueError, match=r"make_trainer\('train', callback\) returned a Trainer without the callback"):
        fit_task(module, loader(), task="a", prune_ratio=0.5, make_trainer=lambda *_: quiet())
    assert picture(module) == before


def test_a_trainer_with_another_callback_of_the_kind_is_refused():
    module = OwnModule()
    own = PackNetCallback(task="a", phase="train")
    with pytest.raises(ValueError, match="returned a Trainer without the callback"):
        fit_task(module, loader(), task="a", prune_ratio=0.5, make_trainer=lambda *_: quiet(own))


@pytest.mark.parametrize("ratio", [1.0, 75, "0.5"])
def test_a_bad_ratio_is_refused_before_a_trainer_is_made(ratio):
    with pytest.raises(ValueError, match=f"prune ratio is {ratio!r}"):
        fit_task(OwnModule(), loader(), task="a", prune_ratio=ratio, make_trainer=lambda *_: pytest.fail("made"))


def test_a_finished_task_is_refused_and_nothing_changes():
    module = OwnModule(MOMENTUM)
    fit(module, "a", [])
    before = picture(module)
    with pytest.raises(ValueError, match="that task is finished and frozen"):
        fit(module, "a", [])
    assert picture(module) == before


def test_weights_between_the_phases_are_those_that_were_pruned():
    module, seen = OwnModule(), []

    def make_trainer(phase, callback):
        seen.append(bits(module.backbone.fc.weight))
        return quiet(callback, max_epochs=0)

    fit_task(module, loader(), task="a", prune_ratio=0.5, make_trainer=make_trainer)
    before, pruned = seen
    kept = module.packnet.owners["fc.weight"] == 1
    assert torch.equal(before[kept], pruned[kept])
    assert not pruned[~kept].any()
    assert before[~kept].all()


@pytest.mark.filterwarnings("ignore:.*The dirpath has changed")
@pytest.mark.parametrize("phase", ["train", "retrain"])
def test_a_task_goes_on_from_a_checkpoint_of_either_phase(tmp_path, phase):
    def run(module, folder, **kwargs):
        phases = []
        module.task = "a"

        def make_trainer(phase, callback):
            phases.append(phase)
            epochs = ModelCheckpoint(folder / phase, filename="{epoch}", save_top_k=-1)
            return quiet(callback, epochs, max_epochs=2, enable_checkpointing=True)

        fit_task(module, loader(), task="a", prune_ratio=0.5, make_trainer=make_trainer, **kwargs)
        return phases

    module, fresh = OwnModule(dropout=0), OwnModule(dropout=0)
    assert run(module, tmp_path / "first") == ["train", "retrain"]
    phases = run(fresh, tmp_path / "second", resume=(phase, tmp_path / "first" / phase / "epoch=0.ckpt"))
    assert phases == (["train", "retrain"] if phase == "train" else ["retrain"])
    assert fresh.packnet.tasks == ["a"]
    assert same(tensors(fresh), tensors(module))
    assert fresh.packnet.digest() == module.packnet.digest()
