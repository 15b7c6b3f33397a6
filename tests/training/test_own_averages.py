"""What holds for both averages of this package: resuming, and pruned weights."""

import pytest
import torch

from packnet_pl.training import ExponentialAverage, LastPartAverage
from tests.support.fits import OwnModule, SaveAndStop, StoppedError, bits, fit_phase, loader, same, tensors

AVERAGES = {"exponential": ExponentialAverage, "last part": lambda: LastPartAverage(0.6)}


@pytest.fixture(params=AVERAGES)
def average(request):
    return AVERAGES[request.param]


@pytest.mark.parametrize("epoch", [1, 2])
def test_a_resumed_fit_ends_with_the_same_average(tmp_path, average, epoch):
    class Later(SaveAndStop):
        def on_train_epoch_end(self, trainer, module):
            if trainer.current_epoch + 1 == epoch:
                super().on_train_epoch_end(trainer, module)

    def fit(*callbacks, path=None):
        torch.manual_seed(0)
        module = OwnModule(dropout=0)
        fit_phase(module, "a", ratio=0.5, callbacks=[average(), *callbacks], max_epochs=3, ckpt_path=path)
        return module

    expected = fit()
    with pytest.raises(StoppedError):
        fit(Later(tmp_path / "last.ckpt"))
    assert same(tensors(fit(path=tmp_path / "last.ckpt")), tensors(expected))


def test_pruned_weights_stay_zero(average):
    module = OwnModule()
    fit_phase(module, "a", ratio=0.5, callbacks=[average()], max_epochs=2)
    pruned = {name: owner == 0 for name, owner in module.packnet.owners.items()}
    fit_phase(module, "a", "retrain", callbacks=[average()], max_epochs=2, data=loader(1))
    for name, free in pruned.items():
        assert free.any()
        assert not bits(module.backbone.get_parameter(name)[free]).any()
