"""When a task is pruned and finished."""

import pytest
import torch
from pytorch_lightning.callbacks import EarlyStopping, WeightAveraging

from packnet_pl import PackNetCallback
from tests.support.fits import (
    OwnModule,
    Spoiler,
    fit_phase,
    loader,
    quiet,
    snapshot,
)


@pytest.mark.parametrize("first", [True, False], ids=["averaging first", "averaging last"])
def test_what_is_pruned_and_finished_are_the_averaged_weights(first):
    class Zero(WeightAveraging):
        """An average of all zeros: what is left of the task is easy to see."""

        def __init__(self):
            super().__init__(avg_fn=lambda average, *_: torch.zeros_like(average))

    module = OwnModule()
    callback = PackNetCallback(task="a", phase="train", private="heads.a")
    quiet(*([Zero(), callback] if first else [callback, Zero()])).fit(module, loader())
    assert module.packnet.tasks == ["a"]
    assert not module.backbone.conv.weight.any()
    module.packnet.verify()


@pytest.mark.parametrize("ratio", [0.0, 0.3, 0.75])
def test_train_prunes_exactly_the_rounded_share_of_each_layer_and_retrain_finishes(ratio):
    module = OwnModule()
    fit_phase(module, "a", "train", ratio)
    assert (module.packnet.open_task, module.packnet.phase, module.packnet.tasks) == ("a", "retrain", [])
    layers = module.packnet.summary().layers
    assert {name: share.free for name, share in layers.items()} == {
        "conv.weight": round(ratio * 36),
        "fc.weight": round(ratio * 96),
    }
    fit_phase(module, "a", "retrain")
    assert (module.packnet.open_task, module.packnet.phase, module.packnet.tasks) == (None, None, ["a"])
    assert {name: share.free for name, share in module.packnet.summary().layers.items()} == {
        "conv.weight": round(ratio * 36),
        "fc.weight": round(ratio * 96),
    }


def test_scope_global_ranks_all_layers_together():
    module = OwnModule()
    with torch.no_grad():
        module.backbone.conv.weight.mul_(1000)
    fit_phase(module, "a", "train", 0.5, own={"scope": "global"}, max_epochs=0)
    layers = module.packnet.summary().layers
    assert {name: share.free for name, share in layers.items()} == {"conv.weight": 0, "fc.weight": 66}


def test_granularity_filter_releases_whole_output_channels():
    module = OwnModule()
    fit_phase(module, "a", "train", 0.5, own={"granularity": "filter"}, max_epochs=0)
    for owner in module.packnet.owners.values():
        assert sorted(set(owner.reshape(len(owner), -1).sum(1).tolist())) == [0, owner[0].numel()]
    layers = module.packnet.summary().layers
    assert {name: share.free for name, share in layers.items()} == {"conv.weight": 18, "fc.weight": 48}


def test_filters_that_belong_to_several_tasks_are_refused_before_anything_is_trained():
    module = OwnModule()
    fit_phase(module, "a", "train", 0.5)
    fit_phase(module, "a", "retrain")
    module.task = "b"
    before = snapshot(module)
    with pytest.raises(ValueError, match="belongs to several tasks, as earlier ones were pruned weight by weight"):
        fit_phase(module, "b", "train", 0.5, own={"granularity": "filter"})
    assert snapshot(module) == before
    # What is not pruned need not be whole.
    fit_phase(module, "b", "train", None, own={"granularity": "filter"})
    assert module.packnet.tasks == ["a", "b"]


def test_without_a_ratio_train_finishes_the_task_and_frees_nothing():
    module = OwnModule()
    fit_phase(module, "a", "train", None)
    assert module.packnet.tasks == ["a"]
    assert module.packnet.summary().total.free == 0


def test_weights_are_settled_before_they_are_pruned():
    module, free = OwnModule(), []
    fit_phase(module, "a", "train", 0.5, own={"settled": lambda m: free.append(m.packnet.summary().total.free)})
    assert free == [0]


@pytest.mark.parametrize("phase", ["train", "retrain"])
@pytest.mark.parametrize(
    "limits",
    [
        {"max_epochs": 0},
        {"max_steps": 1},
        {"max_epochs": 5, "max_time": {"seconds": 0}},
        {
            "max_epochs": 5,
            "limit_train_batches": 1,
            "callbacks": [Spoiler(lambda t, _: setattr(t, "should_stop", True))],
        },
        {"max_epochs": 5, "callbacks": [Spoiler(lambda t, _: setattr(t, "should_stop", True), batch=0)]},
    ],
    ids=["no epoch", "max_steps", "max_time", "limit_train_batches", "should_stop"],
)
def test_a_fit_that_ends_early_ends_its_phase_too(phase, limits):
    module = OwnModule()
    if phase == "retrain":
        fit_phase(module, "a", "train", 0.5)
    fit_phase(module, "a", phase, 0.5 if phase == "train" else None, **limits)
    if phase == "train":
        assert (module.packnet.phase, module.packnet.summary().total.free) == ("retrain", 18 + 48)
    else:
        assert module.packnet.tasks == ["a"]


def test_early_stopping_ends_the_phase():
    module = OwnModule()
    module.val_scores = [0.5, 0.4, 0.3, 0.2, 0.1]
    stop = EarlyStopping("val_accuracy", mode="max", patience=1)
    callback = PackNetCallback(task="a", phase="train", prune_ratio=0.5, private="heads.a")
    trainer = quiet(callback, stop, max_epochs=5)
    trainer.fit(module, loader(), loader())
    assert trainer.current_epoch < 5
    assert module.packnet.phase == "retrain"
