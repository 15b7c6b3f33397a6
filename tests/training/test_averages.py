"""Averaged weights in a checkpoint."""

import pytest
import torch
from pytorch_lightning.callbacks import ModelCheckpoint, WeightAveraging
from torch.optim.swa_utils import get_ema_avg_fn
from training_toys import OwnModule, bits, fit_own, loader, quiet, same, tensors

from packnet_pl import PackNet, PackNetCallback
from packnet_pl.training.averages import keep_in_average


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
    keep_in_average(module.packnet, module, given)
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
    keep_in_average(module.packnet, module, given)
    owners = {f"backbone.{name}": owner for name, owner in module.packnet.owners.items()}
    for name, value in given.items():
        owner = owners.get(name, torch.ones_like(value))
        assert (value[owner == 1] == 7).all(), name
        assert not bits(value)[owner == 0].any(), name


def test_neither_the_average_nor_the_module_is_written_to():
    module = with_open_task()
    given, before = average(module), tensors(module)
    averaged = dict(given)
    keep_in_average(module.packnet, module, given)
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
