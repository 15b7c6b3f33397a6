"""Validation, test and prediction change nothing; what is owned and free is logged."""

import warnings

import pytest

from packnet_pl import PackNetCallback
from tests.support.fits import (
    OwnModule,
    fit_own,
    fit_phase,
    loader,
    quiet,
    same,
    snapshot,
    used_by,
)


def test_validation_during_the_fit_changes_nothing_that_is_held():
    module = OwnModule()
    fit_own(module, "a")
    finished = used_by(module.packnet, 1)
    module.task = "b"
    callback = PackNetCallback(task="b", phase="train", prune_ratio=0.5, private="heads.b")
    quiet(callback, max_epochs=2, num_sanity_val_steps=2).fit(module, loader(), loader(3))
    assert module.packnet.phase == "retrain"
    assert same(used_by(module.packnet, 1), finished)


def said_of_later_tasks(fit):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        fit()
    return [str(warning.message) for warning in found if "later ones cannot change" in str(warning.message)]


def test_the_second_task_of_a_fit_says_once_what_can_no_longer_move():
    module = OwnModule()
    assert not said_of_later_tasks(lambda: fit_own(module, "a"))
    (text,) = said_of_later_tasks(lambda: fit_own(module, "b"))
    assert "task 'b' and later ones cannot change 12.00% of the parameters" in text
    assert not said_of_later_tasks(lambda: fit_own(module, "c"))


@pytest.mark.parametrize("verb", ["validate", "test", "predict"])
def test_other_verbs_with_the_callback_change_nothing(verb):
    module = OwnModule()
    fit_own(module, "a")
    fit_phase(module, "b", "train", 0.5)
    module.predict_step = lambda batch, batch_idx: module(batch[0])
    before = snapshot(module)
    for phase in ("train", "retrain"):
        getattr(quiet(PackNetCallback(task="b", phase=phase)), verb)(module, loader())
    assert snapshot(module) == before


def test_what_is_owned_and_free_is_logged():
    module = OwnModule()
    trainer = fit_phase(module, "a", "train", 0.5)
    assert trainer.callback_metrics["packnet/owned"] == 1
    trainer = fit_phase(module, "a", "retrain")
    assert trainer.callback_metrics["packnet/owned"] == 0.5
    assert trainer.callback_metrics["packnet/free"] == 0.5
