"""Gradual pruning and scores of gradients in fits: when what is released, and that a resumed fit ends alike."""

import logging

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import ModelCheckpoint
from torch.optim import LBFGS
from torch.utils.data import DataLoader, TensorDataset

from packnet_pl import PackNetCallback, PruneRule, fit_task
from packnet_pl.core import movement, taylor
from tests.support.fits import OwnModule, bits, fit_phase, loader, quiet, same, samples, tensors

GRADUAL = PruneRule(schedule="gradual")
BOTH = PruneRule(taylor, "global", schedule="gradual")


class Free(pl.Callback):
    """Notes how many weights are free in each epoch, before it is trained and as it is validated."""

    def __init__(self):
        self.trained, self.ended = [], []

    def on_train_batch_end(self, trainer, pl_module, *_):
        self.trained.append((trainer.current_epoch, pl_module.packnet.summary().total.free))

    def on_fit_end(self, trainer, pl_module):
        self.ended.append(pl_module.packnet.summary().total.free)

    def per_epoch(self):
        return [free for _, free in sorted(set(self.trained))]


class StopsAfter(pl.Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_train_epoch_end(self, trainer, pl_module):
        trainer.should_stop = trainer.current_epoch == self.epoch


def fit(module, rule, *callbacks, epochs=4, ratio=0.5, phases=None, **given):
    """Both phases, the second of ``epochs`` epochs; returns the weights as they were settled."""
    final = []
    fit_task(
        module,
        loader(),
        task="a",
        prune_ratio=ratio,
        rule=rule,
        private="heads.a",
        make_trainer=lambda phase, callback: quiet(
            callback,
            *(callbacks if phase == "retrain" else ()),
            max_epochs=epochs if phase == "retrain" else 1,
            **given.pop(phase, {}),
        ),
        settled=lambda m: final.append(tensors(m)),
        **given,
    )
    return final[0]


def alike():
    """Four batches, all the same: Lightning begins a loader anew when it resumes within an epoch."""
    images, labels = samples(n=8).tensors
    return DataLoader(TensorDataset(images.repeat(4, 1, 1, 1), labels.repeat(4)), batch_size=8)


def count(ratio=0.5):
    return round(ratio * 36) + round(ratio * 96)


def test_each_epoch_has_its_share_and_the_last_third_the_whole():
    module, free = OwnModule(), Free()
    fit(module, GRADUAL, free, epochs=4)
    # 0.25 first, then 0.5 - 0.25 / 8, and 0.5 from epoch 2 on.
    assert free.per_epoch() == [9 + 24, round(0.46875 * 36) + round(0.46875 * 96), count(), count()]
    assert module.packnet.tasks == ["a"]
    assert free.ended[0] == count()


@pytest.mark.parametrize("epochs", [0, 1, 2])
def test_few_epochs_end_with_the_whole(epochs, caplog):
    module, free = OwnModule(), Free()
    with caplog.at_level(logging.INFO, "packnet_pl"):
        fit(module, GRADUAL, free, epochs=epochs)
    assert module.packnet.summary().total.free == count()
    assert free.per_epoch() == {0: [], 1: [count()], 2: [33, count()]}[epochs]
    assert ("the rest of the share 0.5 is released now" in caplog.text) == (epochs == 0)


def test_a_fit_that_is_stopped_early_releases_the_rest(caplog):
    module, free = OwnModule(), Free()
    with caplog.at_level(logging.INFO, "packnet_pl"):
        final = fit(module, GRADUAL, free, StopsAfter(0), epochs=6)
    assert len(free.per_epoch()) == 1
    assert module.packnet.summary().total.free == count()
    assert caplog.text.count("a: training ended before the last step of gradual pruning") == 1
    zeros = sum(int((final[f"backbone.{name}"] == 0).sum()) for name in module.packnet.owners)
    assert zeros == count()


def test_only_epochs_in_which_all_is_pruned_may_be_the_best():
    module = OwnModule()
    module.val_scores = [0.9, 0.8, 0.3, 0.2]
    fit_phase(module, "a", ratio=0.5, own={"rule": GRADUAL})
    seen, final = [], []

    class Seen(pl.Callback):
        def on_validation_end(self, trainer, pl_module):
            seen.append(tensors(pl_module))

    own = {"rule": GRADUAL, "select": "best", "settled": lambda m: final.append(tensors(m))}
    callback = PackNetCallback(task="a", phase="retrain", prune_ratio=0.5, private="heads.a", **own)
    quiet(callback, Seen(), max_epochs=4).fit(module, loader(), loader())
    assert same(final[0], seen[2])
    assert not same(final[0], seen[0])


@pytest.mark.parametrize("rule", [GRADUAL, BOTH], ids=["magnitude", "taylor"])
@pytest.mark.parametrize("at", [2, 5, 8, 12])
def test_a_retraining_that_is_resumed_ends_to_the_bit(rule, at, tmp_path):
    torch.manual_seed(0)
    module = OwnModule(dropout=0.0)
    fit_phase(module, "a", ratio=0.5, own={"rule": rule})
    saving = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
    own = {"rule": rule}
    straight = fit_phase(
        module, "a", "retrain", 0.5, (saving,), own=own, data=alike(), max_epochs=4, enable_checkpointing=True
    )
    assert straight.global_step == 16
    torch.manual_seed(1)
    again = OwnModule(dropout=0.0)
    fit_phase(again, "a", "retrain", 0.5, own=own, data=alike(), max_epochs=4, ckpt_path=tmp_path / f"step={at}.ckpt")
    assert same(tensors(again), tensors(module))
    assert all(torch.equal(one, again.packnet.owners[name]) for name, one in module.packnet.owners.items())


@pytest.mark.parametrize("score", [taylor, movement], ids=["taylor", "movement"])
def test_a_training_that_is_resumed_has_the_same_sums(score, tmp_path):
    torch.manual_seed(0)
    module, rule = OwnModule(dropout=0.0), PruneRule(score)
    saving = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=1, save_top_k=-1)
    fit_phase(
        module,
        "a",
        ratio=0.5,
        callbacks=(saving,),
        own={"rule": rule},
        data=alike(),
        max_epochs=2,
        enable_checkpointing=True,
    )
    again = OwnModule(dropout=0.0)
    path = tmp_path / "step=3.ckpt"
    assert torch.load(path, weights_only=True)["packnet"]["accumulators"]["score"] == score.name
    fit_phase(again, "a", ratio=0.5, own={"rule": rule}, data=alike(), max_epochs=2, ckpt_path=path)
    assert all(torch.equal(one, again.packnet.owners[name]) for name, one in module.packnet.owners.items())
    assert module.packnet.state.accumulators is None


def test_sums_are_of_unmasked_averaged_gradients_once_a_step():
    """Two batches a step: as one backward pass over both."""
    torch.manual_seed(0)
    module, seen = OwnModule(dropout=0.0), []

    class Sees(pl.Callback):
        def on_before_optimizer_step(self, trainer, pl_module, optimizer):
            weight = pl_module.backbone.fc.weight
            seen.append((weight.detach().clone(), weight.grad.clone()))

        def on_train_end(self, trainer, pl_module):
            self.sums = pl_module.packnet.state.accumulators.sums["fc.weight"]

    sees = Sees()
    fit_phase(module, "a", ratio=0.5, callbacks=(sees,), own={"rule": PruneRule(movement)}, accumulate_grad_batches=2)
    assert len(seen) == 2
    assert torch.equal(sees.sums, 0 - seen[0][0] * seen[0][1] - seen[1][0] * seen[1][1])


def test_sums_are_left_alone_by_the_default():
    module = OwnModule()
    fit_phase(module, "a", ratio=0.5)
    assert module.packnet.state.accumulators is None


class StepsPastLightning(OwnModule):
    def __init__(self):
        super().__init__()
        self.automatic_optimization = False

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers(use_pl_optimizer=False)
        optimizer.zero_grad()
        self.manual_backward(super().training_step(batch, batch_idx))
        optimizer.step()


class StepsByHand(StepsPastLightning):
    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(OwnModule.training_step(self, batch, batch_idx))
        optimizer.step()


def test_steps_by_hand_are_seen_and_those_past_lightning_refused():
    module = StepsByHand()
    fit_phase(module, "a", ratio=0.5, own={"rule": PruneRule(taylor)})
    assert module.packnet.summary().total.free == count()
    module = StepsPastLightning()
    before = bits(module.backbone.fc.weight)
    with pytest.raises(ValueError, match="prune score taylor adds up the gradients of each step, and one went past"):
        fit_phase(module, "a", ratio=0.5, own={"rule": PruneRule(taylor)})
    assert torch.equal(bits(module.backbone.fc.weight), before)


def test_what_cannot_be_added_up_is_refused():
    with pytest.raises(ValueError, match="and LBFGS computes several"):
        fit_phase(OwnModule(LBFGS), "a", ratio=0.5, own={"rule": PruneRule(taylor)})
    with pytest.raises(ValueError, match=r"this fit has none \(max_epochs=0\)"):
        fit_phase(OwnModule(), "a", ratio=0.5, own={"rule": PruneRule(taylor)}, max_epochs=0)


def test_a_schedule_without_epochs_or_ratio_is_refused():
    module = OwnModule()
    fit_phase(module, "a", ratio=0.5, own={"rule": GRADUAL})
    with pytest.raises(ValueError, match="without a prune_ratio: give that of phase 'train'"):
        fit_phase(module, "a", "retrain", own={"rule": GRADUAL})
    with pytest.raises(ValueError, match="needs to know how many epochs there are, and this Trainer has max_epochs=-1"):
        fit_phase(module, "a", "retrain", 0.5, own={"rule": GRADUAL}, max_epochs=-1, max_steps=3)
    with pytest.raises(ValueError, match="only phase 'train' prunes"):
        fit_phase(module, "a", "retrain", 0.5)
    fit_phase(module, "a", "retrain", 0.5, own={"rule": GRADUAL})
    assert module.packnet.tasks == ["a"]
