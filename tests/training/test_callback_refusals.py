"""What the callback refuses, before anything is trained."""

from types import SimpleNamespace

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.strategies import FSDPStrategy
from torch import nn
from torch.optim import SGD

from packnet_pl import PackNet, PackNetCallback
from tests.support.fits import (
    MOMENTUM,
    OwnModule,
    SmallNet,
    fit_own,
    fit_phase,
    loader,
    own_head,
    quiet,
    same,
    snapshot,
    tensors,
    used_by,
)


def refused(module, match, *callbacks, **kwargs):
    before = snapshot(module)
    with pytest.raises(ValueError, match=match):
        quiet(*callbacks, **kwargs).fit(module, loader())
    assert snapshot(module) == before


def test_a_module_without_packnet_is_told_the_line_to_add():
    class Bare(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.backbone = nn.Linear(2, 2)

        def training_step(self, batch, batch_idx):
            pytest.fail("it was fitted")

        def configure_optimizers(self):
            return SGD(self.parameters())

    with pytest.raises(ValueError, match=r"Bare has no PackNet .*self\.packnet = PackNet\(self\.backbone\)"):
        quiet(PackNetCallback(task="a", phase="train")).fit(Bare(), loader())


def test_two_callbacks_in_one_trainer_are_refused():
    first, second = (PackNetCallback(task=task, phase="train") for task in "ab")
    with pytest.raises((RuntimeError, ValueError), match="PackNetCallback"):
        quiet(first, second)
    module, trainer = OwnModule(), quiet(first)
    before = snapshot(module)
    trainer.callbacks.append(second)
    with pytest.raises(ValueError, match="2 PackNetCallbacks in one Trainer"):
        trainer.fit(module, loader())
    assert snapshot(module) == before


@pytest.mark.parametrize("phase", ["train", "retrain"])
def test_a_finished_task_is_refused(phase):
    module = OwnModule()
    fit_own(module, "a")
    refused(module, r"task='a', phase='\w+'\): that task is finished", PackNetCallback(task="a", phase=phase))


def test_another_task_than_the_open_one_is_refused():
    module = OwnModule()
    fit_phase(module, "a", "train", 0.5)
    refused(module, "task='b', phase='train'.*'a' is open", PackNetCallback(task="b", phase="train"))


def test_retraining_a_task_that_was_not_trained_is_refused():
    refused(
        OwnModule(),
        "phase='retrain'.*not open: fit it in phase 'train' first",
        PackNetCallback(task="a", phase="retrain"),
    )


def test_training_a_task_again_that_was_pruned_is_refused():
    module = OwnModule()
    fit_phase(module, "a", "train", 0.5)
    refused(module, "phase='train'.*the task is in phase 'retrain'", PackNetCallback(task="a", phase="train"))


@pytest.mark.parametrize("private", ["heads.z", ["heads.a", "heads.z"], "nothing"])
def test_a_wrong_private_name_is_refused(private):
    name = private if isinstance(private, str) else private[-1]
    refused(
        OwnModule(),
        f"private='{name}': OwnModule has no such module",
        PackNetCallback(task="a", phase="train", private=private),
    )


def test_a_network_without_free_weights_is_refused():
    module = OwnModule()
    fit_phase(module, "a", "train", None)
    before = snapshot(module)
    with pytest.raises(RuntimeError, match="no weight is free"):
        fit_phase(module, "b", "train", 0.5)
    assert snapshot(module) == before


def test_weights_changed_from_outside_are_noticed_before_the_next_task():
    module = OwnModule()
    fit_own(module, "a")
    with torch.no_grad():
        module.backbone.bn.weight.add_(1)
    with pytest.raises(RuntimeError, match=r"bn\.weight is not what it was when task 'a' was finished"):
        fit_own(module, "b")
    assert module.packnet.open_task is None


def test_a_private_module_changed_from_outside_is_noticed_before_the_next_task():
    module = OwnModule()
    fit_own(module, "a")
    with torch.no_grad():
        module.heads["a"][1].running_mean.add_(1)
    with pytest.raises(RuntimeError, match=r"heads\.a\.1\.running_mean is not what it was when task 'a' was finished"):
        fit_own(module, "b")
    assert module.packnet.open_task is None


@pytest.mark.parametrize("name", ["backbone.fc.weight", "backbone.bn.running_var", "heads.a.0.bias"])
def test_a_change_between_the_phases_of_a_later_task_is_noticed_before_it_is_held(name):
    module = OwnModule()
    fit_own(module, "a")
    fit_phase(module, "b", "train", 0.5)
    with torch.no_grad():
        module.state_dict()[name].add_(1)
    callback = PackNetCallback(task="b", phase="retrain")
    with pytest.raises(RuntimeError, match=rf"{name.removeprefix('backbone.')} is not what it was when task 'a' was"):
        quiet(callback).fit(module, loader())
    assert (module.packnet.open_task, module.packnet.phase) == ("b", "retrain")


def test_a_shared_module_that_another_one_replaced_is_refused():
    module = OwnModule()
    module.backbone = SmallNet()
    callback = PackNetCallback(task="a", phase="train")
    refused(module, "the SmallNet that packnet was made for is no part of OwnModule", callback)


def test_a_strategy_that_cuts_parameters_is_refused():
    # It cannot be made without several devices; only what the callback asks for is there.
    module, callback = OwnModule(), PackNetCallback(task="a", phase="train")
    trainer = SimpleNamespace(callbacks=[callback], strategy=object.__new__(FSDPStrategy))
    before = snapshot(module)
    with pytest.raises(ValueError, match="strategy FSDPStrategy cuts parameters into shards"):
        callback.setup(trainer, module, "fit")
    assert snapshot(module) == before


def test_a_private_module_inside_the_shared_one_is_refused():
    callback = PackNetCallback(task="a", phase="train", private="backbone.fc")
    refused(OwnModule(), r"private='backbone\.fc' lies inside the shared module \(SmallNet\)", callback)


def test_other_private_modules_in_the_second_phase_are_refused():
    module = OwnModule()
    fit_phase(module, "a", "train", 0.5)
    callback = PackNetCallback(task="a", phase="retrain", private=["heads.a", "heads.b"])
    refused(module, r"was begun with private=\['heads\.a'\]; give the same in both phases", callback)


@pytest.mark.parametrize("precision", ["bf16-true", "64-true"])
def test_a_precision_that_converts_finished_tasks_is_refused(precision):
    module = OwnModule()
    fit_own(module, "a")
    callback = PackNetCallback(task="b", phase="train", private="heads.b")
    before = tensors(module)
    match = rf"precision='{precision}' would convert the weights of \['a'\] from torch\.float32 \(conv\.weight\)"
    with pytest.raises(ValueError, match=match):
        quiet(callback, precision=precision).fit(module, loader())
    assert same(tensors(module), before)
    assert module.packnet.open_task is None


def test_a_module_that_builds_its_layers_late_is_fitted_as_any_other():
    class BuildsLate(OwnModule):
        def __init__(self):
            pl.LightningModule.__init__(self)
            self.packnet, self.task, self.make_optimizer, self.val_scores = None, "a", MOMENTUM, []

        def configure_model(self):
            if self.packnet is None:
                self.backbone = SmallNet()
                self.heads = nn.ModuleDict({task: own_head() for task in "ab"})
                self.packnet = PackNet(self.backbone)

    module = BuildsLate()
    fit_phase(module, "a", "train", 0.5)
    fit_phase(module, "a", "retrain")
    finished = used_by(module.packnet, 1)
    fit_own(module, "b")
    assert module.packnet.tasks == ["a", "b"]
    assert same(used_by(module.packnet, 1), finished)


@pytest.mark.parametrize(
    ("wrong", "match"),
    [
        ({"phase": "retrain", "prune_ratio": 0.5}, "prune_ratio=0.5 was given for phase 'retrain'"),
        ({"phase": "retrain", "prune_ratio": 0.0}, "prune_ratio=0.0 was given for phase 'retrain'"),
        ({"prune_ratio": 75}, r"prune ratio is 75;.*for 75 percent write 0\.75"),
        ({"prune_ratio": 1.0}, r"prune ratio is 1\.0"),
        ({"prune_ratio": -0.1}, r"prune ratio is -0\.1"),
        ({"prune_ratio": float("nan")}, "prune ratio is nan"),
        ({"prune_ratio": True}, "prune ratio is True"),
        ({"prune_ratio": [0.5]}, r"prune ratio is \[0\.5\]"),
        ({"phase": "prune"}, "phase is 'prune'; allowed are 'train' and 'retrain'"),
        ({"select": "first"}, "select is 'first'; allowed are 'last' and 'best'"),
        ({"select": "best", "mode": "up"}, "mode is 'up'; allowed are 'max' and 'min'"),
        ({"mode": "min"}, "monitor='val_accuracy' and mode='min' choose the best epoch: give select='best'"),
        ({"monitor": "f1"}, "monitor='f1' and mode=None choose the best epoch: give select='best'"),
        ({"scope": "network"}, "prune scope is 'network'"),
        ({"granularity": "row"}, "prune granularity is 'row'"),
        ({"task": "a/b"}, "task name is 'a/b'"),
        ({"task": ""}, "task name is ''"),
    ],
)
def test_bad_arguments_are_refused(wrong, match):
    with pytest.raises(ValueError, match=match):
        PackNetCallback(**{"task": "a", "phase": "train", **wrong})
