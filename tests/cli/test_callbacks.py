"""Callbacks by name: early stopping, the best epoch, what a run does not take; resumed, all end with the same bits."""

import csv
import json
import os
import signal
from dataclasses import dataclass
from functools import cache

import hydra
import pytest
from omegaconf import OmegaConf
from pytorch_lightning import callbacks as lightning

from packnet_pl.configuration.callbacks import build_callbacks, check_callbacks
from packnet_pl.configuration.resume_rules import refuse_mixing
from packnet_pl.configuration.sequences import expand_tasks
from packnet_pl.errors import UsageError
from packnet_pl.run.checkpointing import SaveState
from packnet_pl.training import ExponentialAverage
from tests.support import ROOT, warm

TINY = ["debug=tiny", "sequence.order=[digits]", "optim.batch_size=16", "debug.max_epochs=6"]
# No epoch is better than the first by so much: each phase has three epochs.
STOPS = ["callbacks.early_stopping.patience=2", "callbacks.early_stopping.min_delta=1.0"]
TARGET = "callbacks.mine._target_=pytorch_lightning.callbacks."


@cache
def composed(*overrides):
    with hydra.initialize_config_module("packnet_pl.conf", version_base="1.3"):
        config = expand_tasks(hydra.compose("train", list(overrides)))
    return OmegaConf.create(OmegaConf.to_container(config, resolve=True))


def with_callbacks(names, *given):
    """Returns the default configuration with callbacks, and other values, as Hydra composes them (which takes long)."""
    named = [OmegaConf.load(ROOT / "conf" / "callbacks" / f"{name}.yaml") for name in names]
    return OmegaConf.merge(composed(), {"callbacks": OmegaConf.merge(*named, {})}, OmegaConf.from_dotlist(list(given)))


def checked(names, *given):
    config = with_callbacks(names, *given)
    check_callbacks(config, "cpu")
    return build_callbacks(config.callbacks)


def test_a_list_names_several_and_each_fit_gets_new_ones():
    config = composed("callbacks=[early_stopping,lr_monitor]", "callbacks.early_stopping.patience=7")
    first, second = build_callbacks(config.callbacks), build_callbacks(config.callbacks)
    assert [type(callback) for callback in first] == [lightning.EarlyStopping, lightning.LearningRateMonitor]
    assert (first[0].monitor, first[0].mode, first[0].patience) == ("val_accuracy", "max", 7)
    assert first[0] is not second[0]
    assert build_callbacks(composed().callbacks) == build_callbacks(None) == []


def test_any_callback_of_lightning_is_taken_by_its_target():
    found = checked(["ema"], f"{TARGET}EarlyStopping", "callbacks.mine.monitor=val_loss")
    assert [type(callback) for callback in found] == [ExponentialAverage, lightning.EarlyStopping]


@pytest.mark.parametrize(
    ("names", "given", "message"),
    [
        ([], ["callbacks.mine=3"], "callbacks.mine is 3; it takes a callback: '+callbacks.mine._target_=my_package.My"),
        ([], ["callbacks.mine._target_=builtins.dict"], "callbacks.mine is a dict; it takes a callback of pytorch_lig"),
        (["ema"], ["callbacks.ema.phase=test"], "callbacks.ema.phase is 'test'; allowed are train, retrain, and null"),
        (["early_stopping"], ["callbacks.early_stopping.mode=up"], "callbacks.early_stopping: `mode` can be"),
        (["early_stopping"], ["callbacks.early_stopping.mode=min"], "stops while val_accuracy gets better: max"),
        (["early_stopping"], ["callbacks.early_stopping.monitor=loss"], "is 'loss'; a run logs train_loss, "),
        (["lr_monitor"], ["logger=null"], "callbacks.lr_monitor has nowhere to log to: leave it out, or give"),
        (["ema"], ["method.fit.select=best"], "callbacks.ema averages weights, and method.fit.select=best"),
        (["timer"], [f"{TARGET}Timer"], "callbacks.mine and callbacks.timer are the same callback twice"),
        ([], [f"{TARGET}ModelCheckpoint"], "ModelCheckpoint, which packnet-train does not take: a run saves its own"),
        ([], [f"{TARGET}ModelPruning", "callbacks.mine.pruning_fn=l1_unstructured"], "prunes the weights of all tasks"),
        ([], [f"{TARGET}GradientAccumulationScheduler", "callbacks.mine.scheduling={0: 2}"], "(optim.accumulate=...)"),
        ([], [f"{TARGET}LearningRateFinder"], "LearningRateFinder, which packnet-train does not take"),
        ([], [f"{TARGET}RichProgressBar"], "RichProgressBar, which packnet-train does not take: a run shows its own"),
        ([], [f"{TARGET}BackboneFinetuning"], "BackboneFinetuning, which packnet-train does not take: which weights"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(names, given, message):
    with pytest.raises(UsageError) as refused:
        checked(names, *given)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_callback_may_be_for_one_phase_alone():
    node = with_callbacks(["ema", "lr_monitor"], "callbacks.ema.phase=retrain").callbacks
    assert len(build_callbacks(node)) == 2
    kinds = {phase: [type(made).__name__ for made in build_callbacks(node, phase)] for phase in ("train", "retrain")}
    assert kinds == {"train": ["LearningRateMonitor"], "retrain": ["ExponentialAverage", "LearningRateMonitor"]}


@pytest.mark.parametrize(
    ("before", "after", "changed", "begins_anew"),
    [
        ([], ["lr_monitor", "device_stats"], [], False),
        (["lr_monitor"], [], [], False),
        ([], ["early_stopping"], [], True),
        (["early_stopping"], ["early_stopping"], ["callbacks.early_stopping.patience=9"], True),
    ],
)
def test_a_run_resumes_with_other_callbacks_that_only_watch(before, after, changed, begins_anew):
    saved = OmegaConf.to_container(with_callbacks(before))
    now = OmegaConf.to_container(with_callbacks(after, *changed))
    if not before:
        del saved["callbacks"]  # of a version that had none
    now["sequence"]["finished"] = []
    assert bool(refuse_mixing(saved, now, ["latin"])) is begins_anew
    now["sequence"]["finished"] = ["latin"]
    if begins_anew:
        with pytest.raises(UsageError, match=r"^callbacks\.early_stopping\."):
            refuse_mixing(saved, now, ["latin", "greek"])
    else:
        assert refuse_mixing(saved, now, ["latin", "greek"]) == ()


@dataclass
class DiesAfterSaving:
    """Kills the process right after so many checkpoints were written."""

    count: int

    def __call__(self):
        saved = []
        save = SaveState._save

        def save_and_die(self_, trainer):
            save(self_, trainer)
            saved.append(trainer.global_step)
            if len(saved) == self.count:
                os.kill(os.getpid(), signal.SIGKILL)

        SaveState._save = save_and_die


def rows(folder, phase):
    with (folder / "tasks" / "digits" / "logs" / phase / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def epochs(folder, phase):
    return [float(row["val_accuracy"]) for row in rows(folder, phase) if row["val_accuracy"]]


def killed_and_resumed(tmp_path, words, kills):
    """Runs once without interruption, and once killed after so many checkpoints of each process; compares the bits."""
    done = warm.run("packnet-train", *words, "hydra.run.dir=plain", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    begin = ("packnet-train", *words, "hydra.run.dir=killed")
    for count in kills:
        done = warm.run(*begin, cwd=tmp_path, before=DiesAfterSaving(count))
        assert done.returncode == -signal.SIGKILL, done.stderr
        begin = ("packnet-resume", "killed")
    done = warm.run(*begin, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    warm.assert_same(tmp_path / "killed", warm.outcome(tmp_path / "plain"))
    return tmp_path / "plain"


@pytest.mark.slow
def test_early_stopping_ends_each_phase_with_its_best_epoch_and_a_killed_run_with_the_same_bits(tmp_path):
    words = [*TINY, *STOPS, "callbacks=[early_stopping,lr_monitor]", "method.fit.select=best"]
    # Two steps an epoch, and a checkpoint after each: the third epoch is the last one.
    words += ["checkpoint.every_n_steps=1", "sequence.tasks.digits.train.lr=0.5"]
    folder = killed_and_resumed(tmp_path, words, kills=[6, 3])
    train, retrain = (epochs(folder, phase) for phase in ("train", "retrain"))
    assert (len(train), len(retrain)) == (3, 3)
    assert sum(bool(row["lr-SGD"]) for row in rows(folder, "train")) == 3
    recorded = json.loads((folder / "results.json").read_text())["tasks"][0]
    assert recorded["owned"] == 0.5  # it was pruned after it had stopped
    assert max(train) != train[-1], "this run would not tell the best epoch from the last one"
    assert recorded["val_accuracy"]["dense"] == pytest.approx(max(train))
    assert recorded["val_accuracy"]["retrained"] == pytest.approx(max(retrain))


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("method", ["packnet", "finetune", "joint"])
def test_averages_and_early_stopping_resume_with_the_same_bits(tmp_path, method):
    words = [*TINY, *STOPS, "callbacks=[ema,early_stopping]", "checkpoint.every_n_steps=1", f"method={method}"]
    folder = killed_and_resumed(tmp_path, words, kills=[3, 3])
    assert len(epochs(folder, "train")) == 3


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("method", ["packnet", "finetune"])
def test_an_average_is_used_though_the_run_was_killed_behind_its_last_checkpoint(tmp_path, method):
    words = ["debug=tiny", "sequence.order=[digits]", "optim.batch_size=16", "debug.max_epochs=2", "callbacks=ema"]
    killed_and_resumed(tmp_path, [*words, f"method={method}"], kills=[2])
