"""Both phases of a task."""

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader

from packnet_pl import PackNetCallback, fit_task
from packnet_pl.core.state_dump import digest
from tests.support.fits import (
    MOMENTUM,
    OwnModule,
    Spoiler,
    bits,
    fit_own,
    fit_phase,
    loader,
    quiet,
    same,
    samples,
    snapshot,
    tensors,
)


def fit(module, task, phases, ratio=0.5, **kwargs):
    def make_trainer(phase, callback):
        phases.append((phase, callback.phase, callback.prune_ratio))
        return quiet(callback)

    module.task = task
    kwargs = {"private": f"heads.{task}", **kwargs}
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


def test_scope_private_and_free_reach_the_callback():
    module = OwnModule()
    with torch.no_grad():
        module.backbone.conv.weight.mul_(1000)
    with pytest.warns(UserWarning, match=r"^heads\.b is private to task 'a' and never got a gradient"):
        fit(module, "a", [], scope="global", private=["heads.a", "heads.b"])
    with pytest.raises(ValueError, match=r"^free='heads\.z'"):
        fit(module, "c", [], free="heads.z")
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

    fit_task(
        module,
        loader(),
        task="a",
        prune_ratio=0.5,
        private="heads.a",
        make_trainer=make_trainer,
        val_dataloaders=loader(),
        select="best",
    )
    assert selected == [True, True]


class Scores(OwnModule):
    """Logs a metric of its own: it is best in the second epoch."""

    def validation_step(self, batch, batch_idx):
        self.log("val_f1", [0.2, 0.9, 0.4][self.current_epoch], batch_size=1)
        self.log("val_loss", [0.3, 0.1, 0.2][self.current_epoch], batch_size=1)


def fit_best(module, trainer=None, data=None, val=None, **given):
    def make_trainer(phase, callback):
        return quiet(callback, **{"max_epochs": 3, **(trainer or {})})

    val = loader() if val is None else val
    fit_task(
        module,
        loader() if data is None else data,
        task="a",
        prune_ratio=None,
        private="heads.a",
        make_trainer=make_trainer,
        val_dataloaders=val,
        select="best",
        **given,
    )


@pytest.mark.parametrize("given", [{"monitor": "val_f1"}, {"monitor": "val_loss", "mode": "min"}])
def test_the_best_epoch_of_any_metric_with_a_validation_loader(given):
    module, seen = Scores(), []
    module.on_train_epoch_end = lambda: seen.append(tensors(module))
    fit_best(module, **given)
    assert same(tensors(module), seen[1])


class Data(pl.LightningDataModule):
    def train_dataloader(self):
        return loader()


class TrainOnly(OwnModule):
    """Has a loader of its own, and no validation."""

    validation_step = pl.LightningModule.validation_step

    def train_dataloader(self):
        return loader()


REFUSED = {
    "no mode for a loss": (
        {"monitor": "val_loss"},
        "monitor='val_loss' without a mode would keep",
    ),
    "no mode for another kind of loss": ({"monitor": "val/RMSE"}, "monitor='val/RMSE' without a mode would keep"),
    "no name": ({"monitor": None}, "monitor is None; it takes the name of a metric"),
    "a metric that is not logged": (
        {"monitor": "f1"},
        r"needs the metric 'f1'; validation logged \['val_f1'",
    ),
    "two loaders in one": ({"data": (loader(), loader())}, "was given a tuple of 2 to train on; it takes one loader"),
    "a list": ({"data": [loader()]}, "was given a list of 1 to train on"),
    "a dataset": ({"data": samples()}, "the dataset TensorDataset to train on; give a loader: DataLoader"),
    "a dataset to validate": ({"val": samples()}, "the dataset TensorDataset as val_dataloaders"),
    "one of two": ({"val": [loader(), samples()]}, "the dataset TensorDataset as val_dataloaders"),
    "a path": ({"data": "/data/cats"}, "was given a str to train on; it takes a loader or a datamodule"),
    "a number": ({"val": 3}, "was given a int as val_dataloaders"),
    "a class": ({"data": Data}, r"the class Data to train on; give an object: Data\(...\)"),
    "what is used up": ({"data": iter(loader())}, "which is used up after one epoch"),
    "no batch": (
        {"data": DataLoader(samples(n=3), batch_size=8, drop_last=True)},
        "a loader without a batch",
    ),
    "twice": ({"data": Data()}, "val_dataloaders was given beside the datamodule Data"),
    "never validated": ({"trainer": {"check_val_every_n_epoch": 5}}, "validates every 5 epochs and has 3"),
    "no batches": ({"trainer": {"limit_val_batches": 0}}, "this fit has none: give a loader"),
}


@pytest.mark.parametrize(("given", "said"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_said_before_anything_is_trained(given, said):
    module = Scores()
    before = snapshot(module)
    given = {"monitor": "val_f1", **given, "trainer": {"num_sanity_val_steps": 2, **given.get("trainer", {})}}
    with pytest.raises(ValueError, match=said):
        fit_best(module, **given)
    assert same(tensors(module), {name: torch.tensor(value) for name, value in before["tensors"].items()})
    assert module.packnet.tasks == []


@pytest.mark.parametrize("data", [None, Data()])
def test_the_best_epoch_without_any_validation_is_refused(data):
    module = TrainOnly()
    with pytest.raises(ValueError, match="select='best' needs validation that logs 'val_accuracy'"):
        fit_task(
            module,
            data,
            task="a",
            prune_ratio=None,
            private="heads.a",
            make_trainer=lambda _, c: quiet(c),
            select="best",
        )
    assert module.packnet.open_task is None


@pytest.mark.parametrize(
    ("model", "data", "said"),
    [
        (nn.Linear(1, 1), loader(), "was given a Linear as its model; it takes a LightningModule"),
        (OwnModule(), None, r"was given None to train on, and OwnModule has no train_dataloader\(\) of its own"),
    ],
)
def test_a_module_that_cannot_be_fitted_is_named(model, data, said):
    with pytest.raises(ValueError, match=said):
        fit_task(model, data, task="a", prune_ratio=0.5, make_trainer=lambda *_: pytest.fail("made"))


def test_a_module_with_a_loader_of_its_own_is_fitted():
    module = TrainOnly()
    fit_task(module, None, task="a", prune_ratio=0.5, private="heads.a", make_trainer=lambda _, c: quiet(c))
    assert module.packnet.tasks == ["a"]


def test_a_function_that_returns_no_trainer_is_refused():
    with pytest.raises(ValueError, match=r"make_trainer\('train', callback\) returned None: it must return"):
        fit_task(OwnModule(), loader(), task="a", prune_ratio=0.5, make_trainer=lambda *_: None)


def test_a_metric_that_is_never_a_number_keeps_the_last_epoch_and_says_so():
    module = OwnModule()
    module.val_scores = [float("nan")] * 3
    with pytest.warns(UserWarning, match="select='best' found no epoch in which 'val_accuracy' is a number"):
        fit_best(module)
    assert module.packnet.tasks == ["a"]


def test_a_module_that_logs_nothing_in_the_check_before_training_is_fitted():
    class Silent(Scores):
        def validation_step(self, batch, batch_idx):
            if not self.trainer.sanity_checking:
                super().validation_step(batch, batch_idx)

    module = Silent()
    fit_best(module, {"num_sanity_val_steps": 2}, monitor="val_f1")
    assert module.packnet.tasks == ["a"]


def test_a_trainer_without_the_callback_is_refused_and_nothing_is_trained():
    module = OwnModule()
    before = snapshot(module)
    with pytest.raises(ValueError, match=r"make_trainer\('train', callback\) returned a Trainer without the callback"):
        fit_task(module, loader(), task="a", prune_ratio=0.5, make_trainer=lambda *_: quiet())
    assert snapshot(module) == before


def test_a_trainer_that_has_served_a_phase_is_refused_for_the_next():
    module, trainers = OwnModule(), []

    def make_trainer(phase, callback):
        trainers.append(trainers[0] if trainers else quiet(callback))
        trainers[0].callbacks = [callback]
        return trainers[0]

    with pytest.raises(ValueError, match=r"^make_trainer\('retrain', callback\) .* has made 1 epoch already"):
        fit_task(module, loader(), task="a", prune_ratio=0.5, private="heads.a", make_trainer=make_trainer)
    assert module.packnet.phase == "retrain"


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
    before = snapshot(module)
    with pytest.raises(ValueError, match="that task is finished and frozen"):
        fit(module, "a", [], private="heads.b")
    assert snapshot(module) == before


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

        fit_task(module, loader(), task="a", prune_ratio=0.5, private="heads.a", make_trainer=make_trainer, **kwargs)
        return phases

    module, fresh = OwnModule(dropout=0), OwnModule(dropout=0)
    assert run(module, tmp_path / "first") == ["train", "retrain"]
    phases = run(fresh, tmp_path / "second", resume=(phase, tmp_path / "first" / phase / "epoch=0.ckpt"))
    assert phases == (["train", "retrain"] if phase == "train" else ["retrain"])
    assert fresh.packnet.tasks == ["a"]
    assert same(tensors(fresh), tensors(module))
    assert digest(fresh.packnet.state) == digest(module.packnet.state)
