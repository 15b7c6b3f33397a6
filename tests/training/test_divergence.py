"""What training leaves behind where it gave numbers that are not finite."""

import re

import pytest
import pytorch_lightning as pl
import torch

from packnet_pl import PackNetCallback, TaskClassifier
from packnet_pl.methods import FineTuning, IndividualNetworks, LearningWithoutForgetting, fit_unpruned
from packnet_pl.training import DivergedError
from tests.support.fits import RECIPES, OwnModule, SmallNet, fit_own, loader, quiet


@pytest.mark.parametrize("phase", ["train", "retrain"])
@pytest.mark.parametrize("name", ["backbone.bn.running_var", "heads.head_0.bias", "backbone.conv.weight"])
def test_what_is_not_finite_though_the_loss_is_stops_the_task_at_the_end_of_the_epoch(phase, name):
    """Batch-norm divides by the statistics of the batch while it trains; after the last step there is no loss."""

    def poison(trainer, module):
        tensor = {**dict(module.named_parameters()), **dict(module.named_buffers())}[name]
        with torch.no_grad():
            tensor.view(-1)[0] = float("inf")

    class AtTheLastStep(pl.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if batch_idx + 1 == trainer.num_training_batches:
                poison(trainer, pl_module)

    model = TaskClassifier(SmallNet(), recipes=RECIPES)
    model.add_task("a", num_classes=3)
    if phase == "retrain":
        quiet(PackNetCallback(task="a", phase="train", prune_ratio=0.5)).fit(model, loader())
    seen = []
    callback = PackNetCallback(task="a", phase=phase, prune_ratio=0.5 if phase == "train" else None)
    saved = pl.callbacks.LambdaCallback(on_save_checkpoint=lambda *_: seen.append(1))
    with pytest.raises(FloatingPointError, match=f"{re.escape(name)} holds NaN or infinity since task 'a' was trained"):
        quiet(callback, AtTheLastStep(), saved).fit(model, loader())
    assert (model.packnet.open_task, model.packnet.phase, seen) == ("a", phase, [])
    model.packnet.abort_task()


def test_what_is_not_finite_before_the_first_step_of_retraining_is_the_rate_of_training():
    model = TaskClassifier(SmallNet(), recipes=RECIPES)
    model.add_task("a", num_classes=3)
    quiet(PackNetCallback(task="a", phase="train", prune_ratio=0.5)).fit(model, loader())
    with torch.no_grad():
        model.backbone.conv.weight.mul_(1e38)  # finite, and too large to go on with
        model.heads["a"].weight.mul_(1e38)
    with pytest.raises(DivergedError, match="in epoch 0, step 0") as diverged:
        quiet(PackNetCallback(task="a", phase="retrain")).fit(model, loader())
    assert (diverged.value.task, diverged.value.phase) == ("a", "train")


@pytest.mark.parametrize("method", [FineTuning, LearningWithoutForgetting, IndividualNetworks])
def test_a_method_that_packs_nothing_does_not_finish_a_task_that_is_not_finite(method):
    model = method(SmallNet())
    model.recipes = RECIPES
    model.add_task("a", num_classes=3)
    settled = []

    class Overflow(pl.Callback):
        def on_train_end(self, trainer, pl_module):
            pl_module.backbone.bn.running_var[0] = float("inf")

    def make_trainer(phase, callback):
        return quiet(Overflow(), callback)

    with pytest.raises(FloatingPointError, match=r"backbone\.bn\.running_var holds NaN or infinity since task 'a'"):
        fit_unpruned(
            model, loader(), task="a", prune_ratio=None, make_trainer=make_trainer, settled=lambda _: settled.append(1)
        )
    assert not settled
    assert not getattr(model, "networks", None)


def test_a_module_of_a_users_own_that_is_not_finite_is_neither_pruned_nor_finished():
    for name in ("backbone.bn.running_mean", "heads.a.1.running_var"):
        module = OwnModule()

        class Overflow(pl.Callback):
            def on_train_end(self, trainer, pl_module, name=name):
                pl_module.get_buffer(name)[0] = float("nan")

        with pytest.raises(
            FloatingPointError, match=rf"{name.rpartition('.')[2]} holds NaN or infinity since task 'a'"
        ):
            fit_own(module, "a", callbacks=[Overflow()])
        assert (module.packnet.open_task, module.packnet.phase) == ("a", "train")
