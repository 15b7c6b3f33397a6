"""Averaged weights in a checkpoint."""

import pytest
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging, ModelCheckpoint, StochasticWeightAveraging, WeightAveraging
from torch.optim.swa_utils import get_ema_avg_fn

from packnet_pl import PackNet, PackNetCallback
from packnet_pl.training.weight_averaging import freeze_in_average_
from tests.support.fits import (
    OwnModule,
    SaveAndStop,
    StoppedError,
    bits,
    fit_own,
    fit_phase,
    loader,
    quiet,
    same,
    tensors,
)


def average(module):
    """What no tensor of the module is."""
    return {name: torch.full_like(value, 7) for name, value in module.state_dict().items()}


def with_open_task(finished="a"):
    module = OwnModule()
    for task in finished:
        fit_own(module, task)
    module.packnet.begin_task("b", private=["heads.b"])
    return module


def test_what_may_not_move_has_its_own_bits_and_the_rest_is_the_average():
    module = with_open_task()
    before, given = tensors(module), average(module)
    freeze_in_average_(module.packnet, module, given)
    owners = {f"backbone.{name}": owner for name, owner in module.packnet.owners.items()}
    for name, value in given.items():
        if name in owners:
            mine = owners[name] == 2
            assert mine.any()
            assert (value[mine] == 7).all()
            assert torch.equal(bits(value)[~mine], before[name][~mine])
        elif name.startswith(("backbone.", "heads.a.")):
            assert torch.equal(bits(value), before[name]), name
        else:
            assert (value == 7).all(), name


def test_of_the_first_task_only_what_was_pruned_is_not_averaged():
    module = with_open_task(finished="")
    module.packnet.prune(0.5)
    given = average(module)
    freeze_in_average_(module.packnet, module, given)
    owners = {f"backbone.{name}": owner for name, owner in module.packnet.owners.items()}
    for name, value in given.items():
        owner = owners.get(name, torch.ones_like(value))
        assert (value[owner == 1] == 7).all(), name
        assert not bits(value)[owner == 0].any(), name


def test_neither_the_average_nor_the_module_is_written_to():
    module = with_open_task()
    given, before = average(module), tensors(module)
    averaged = dict(given)
    freeze_in_average_(module.packnet, module, given)
    assert all((value == 7).all() for value in averaged.values())
    for value in given.values():
        value.zero_()
    assert same(tensors(module), before)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("first", [True, False], ids=["averaging first", "averaging last"])
def test_a_checkpoint_of_an_averaging_fit_verifies_in_whatever_order_the_callbacks_are_given(tmp_path, first):
    module = OwnModule()
    fit_own(module, "a")
    module.task = "b"
    averaging = WeightAveraging(avg_fn=get_ema_avg_fn(0.7))
    callback = PackNetCallback(task="b", phase="train", prune_ratio=0.5, private="heads.b")
    epochs = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1)
    given = [averaging, callback] if first else [callback, averaging]
    quiet(*given, epochs, enable_checkpointing=True).fit(module, loader())
    fresh = OwnModule.load_from_checkpoint(tmp_path / "epoch=0.ckpt", weights_only=True)
    fresh.packnet = PackNet.from_checkpoint(fresh.backbone, tmp_path / "epoch=0.ckpt")
    fresh.packnet.verify(fresh)


class Never(WeightAveraging):
    """A user's own rule, which is never met."""

    def should_update(self, step_idx=None, epoch_idx=None):
        return False


UNBEGUN = {
    "ema": (lambda: EMAWeightAveraging(update_starting_at_step=10_000), {}),
    "own rule": (lambda: Never(use_buffers=False), {}),
    "swa, no end": (
        lambda: StochasticWeightAveraging(swa_lrs=0.1, swa_epoch_start=10),
        {"max_epochs": -1, "max_steps": 8},
    ),
}


def trained(callbacks=(), module=None, **settings):
    """The parameters after two epochs of a first task."""
    torch.manual_seed(0)
    module = module or OwnModule(dropout=0)
    fit_phase(module, "a", callbacks=callbacks, **{"max_epochs": 2, **settings})
    return {name: bits(parameter) for name, parameter in module.named_parameters()}


@pytest.mark.parametrize(("make", "settings"), UNBEGUN.values(), ids=UNBEGUN)
def test_an_average_that_never_began_is_not_used_and_says_so(make, settings):
    wanted = trained(**settings)
    callback = make()
    with pytest.warns(UserWarning, match=f"{type(callback).__name__} never updated its average in this fit"):
        assert same(trained([callback], **settings), wanted)


def test_an_average_of_one_early_step_says_so():
    with pytest.warns(UserWarning, match="EMAWeightAveraging updated its average in step 1 of 8 alone"):
        trained([EMAWeightAveraging(update_every_n_steps=1000)])


def test_an_exponential_average_that_is_mostly_its_first_weights_says_so():
    with pytest.warns(UserWarning, match="EMAWeightAveraging has averaged 8 times, .* still make up 93%"):
        trained([EMAWeightAveraging(decay=0.99)])


def test_an_average_of_the_only_step_says_nothing(recwarn):
    trained([EMAWeightAveraging()], max_epochs=1, max_steps=1)
    assert not [warning for warning in recwarn if "of what is kept" in str(warning.message)]


def test_a_callback_that_served_an_earlier_fit_spoils_no_later_one():
    wanted, callback = trained(), EMAWeightAveraging()
    trained([callback])
    with pytest.warns(UserWarning, match="has served a fit before"):
        assert same(trained([callback]), wanted)


def test_stochastic_averaging_that_served_an_earlier_fit_keeps_the_trained_weights():
    callback, kept = StochasticWeightAveraging(0.1, swa_epoch_start=1), []

    class Keeps(OwnModule):
        def on_train_epoch_end(self):
            kept.append(self.backbone.fc.weight.detach().clone())

    trained([callback])
    with pytest.warns(UserWarning, match="has served a fit before"):
        trained([callback], module := Keeps(dropout=0))
    # Its epoch for statistics ends with a step of momentum and weight decay, as always.
    assert torch.dist(module.backbone.fc.weight, kept[1]) < torch.dist(kept[0], kept[1])


@pytest.mark.parametrize("epochs", [2, 5])
def test_stochastic_averaging_that_begins_after_the_end_is_refused_before_the_fit(epochs):
    module, callback = OwnModule(), StochasticWeightAveraging(swa_lrs=0.1, swa_epoch_start=6)
    before = tensors(module)
    with pytest.raises(ValueError, match=f"begins with epoch 6 .* this fit has {epochs}: give a smaller"):
        trained([callback], module, max_epochs=epochs)
    assert same(tensors(module), before)
    assert module.packnet.open_task is None


def test_until_an_average_begins_the_weights_are_validated_saved_and_resumed(tmp_path):
    seen = []

    class Looks(OwnModule):
        def validation_step(self, batch, batch_idx):
            seen.append(tensors(self))

    def fit(*callbacks, ckpt_path=None):
        torch.manual_seed(0)
        module = Looks(dropout=0)
        callback = PackNetCallback(task="a", phase="train", prune_ratio=None, private="heads.a")
        averaging = EMAWeightAveraging(update_starting_at_step=10_000)
        quiet(callback, averaging, *callbacks, max_epochs=2).fit(module, loader(), loader(), ckpt_path=ckpt_path)
        return tensors(module)

    with pytest.warns(UserWarning, match="never updated"):
        wanted = fit()
    with pytest.raises(StoppedError):
        fit(SaveAndStop(tmp_path / "a.ckpt"))
    saved = torch.load(tmp_path / "a.ckpt", weights_only=True)
    now = {name: bits(value) for name, value in saved["current_model_state"].items()}
    assert same(seen[-1], now)
    assert same({name: bits(value) for name, value in saved["state_dict"].items()}, now)
    with pytest.warns(UserWarning, match="never updated"):
        assert same(fit(ckpt_path=tmp_path / "a.ckpt"), wanted)


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_checkpoint_written_after_an_averaging_fit_holds_the_weights_that_were_pruned(tmp_path):
    module = OwnModule()
    trainer = fit_phase(module, "a", ratio=0.5, callbacks=[WeightAveraging(avg_fn=get_ema_avg_fn(0.7))])
    trainer.save_checkpoint(tmp_path / "a.ckpt")
    fresh = OwnModule.load_from_checkpoint(tmp_path / "a.ckpt", weights_only=True)
    assert same(tensors(fresh), tensors(module))
