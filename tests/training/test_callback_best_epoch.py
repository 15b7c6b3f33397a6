"""select='best' goes on with the weights of the best epoch."""

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import StochasticWeightAveraging, WeightAveraging

from packnet_pl import PackNetCallback
from tests.support.fits import (
    OwnModule,
    bits,
    fit_own,
    fit_phase,
    loader,
    quiet,
    same,
    tensors,
    used_by,
)


@pytest.mark.parametrize(("mode", "best"), [("max", 1), ("min", 2)])
def test_select_best_prunes_the_best_epochs_weights(mode, best):
    module = OwnModule()
    module.val_scores = [0.3, 0.9, 0.1, 0.9]
    epochs, final = [], []
    look = lambda m: final.append(tensors(m))  # noqa: E731
    callback = PackNetCallback(
        task="a", phase="train", prune_ratio=0.5, private="heads.a", select="best", mode=mode, settled=look
    )
    quiet(callback, Epochs(epochs), max_epochs=4, num_sanity_val_steps=1).fit(module, loader(), loader())
    assert len(epochs) == 4
    assert same(final[0], epochs[best])
    assert not same(final[0], epochs[3])
    # The pruned weights are those of that epoch too.
    kept = module.packnet.owners["conv.weight"] != 0
    assert torch.equal(bits(module.backbone.conv.weight)[kept], epochs[best]["backbone.conv.weight"][kept])


class Epochs(pl.Callback):
    """Keeps the weights of every epoch, as validation saw them."""

    def __init__(self, seen):
        self.seen = seen

    def on_validation_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            self.seen.append(tensors(pl_module))


def test_select_best_keeps_frozen_weights_and_pruned_zeros_in_retraining():
    module = OwnModule()
    fit_own(module, "a")
    finished = used_by(module.packnet, 1)
    fit_phase(module, "b", "train", 0.5)
    module.val_scores = [0.5, 0.1]
    callback = PackNetCallback(task="b", phase="retrain", private="heads.b", select="best")
    quiet(callback, max_epochs=2).fit(module, loader(), loader())
    assert module.packnet.tasks == ["a", "b"]
    assert same(used_by(module.packnet, 1), finished)
    for name, owner in module.packnet.owners.items():
        assert not bits(module.backbone.get_parameter(name))[owner == 0].any()


@pytest.mark.parametrize("averaging", [WeightAveraging, lambda: StochasticWeightAveraging(0.01)])
def test_select_best_with_averaging_is_refused(averaging):
    # Averaging swaps its weights out again before the score of the epoch is known, and in again at the end.
    module = OwnModule()
    before = tensors(module)
    callback = PackNetCallback(task="a", phase="train", private="heads.a", select="best")
    with pytest.raises(ValueError, match="select='best' with an averaging callback"):
        quiet(averaging(), callback, max_epochs=2).fit(module, loader(), loader())
    assert module.packnet.open_task is None
    assert same(tensors(module), before)


def test_select_best_without_the_metric_is_refused_by_its_name():
    module = OwnModule()
    callback = PackNetCallback(task="a", phase="train", private="heads.a", select="best", monitor="val_f1")
    with pytest.raises(ValueError, match=r"select='best' needs the metric 'val_f1'; validation logged.*val_accuracy"):
        quiet(callback).fit(module, loader(), loader())
