"""Running statistics of norms, computed anew when the weights of a phase are final."""

from copy import deepcopy

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging
from torch.optim.swa_utils import update_bn

from packnet_pl import TaskClassifier, fit_task
from packnet_pl.data import TaskData
from packnet_pl.data.drawn_augmentation import AFFINE, augmented, drawn_augmentation
from packnet_pl.methods import ClassifierOnly
from packnet_pl.training import RecalibrateNorms, TaskDataModule
from packnet_pl.training.recalibration import recalibrate_
from tests.support.fits import (
    RECIPES,
    SaveAndStop,
    SmallNet,
    StoppedError,
    fit_method,
    images,
    loader,
    quiet,
    same,
    samples,
    tensors,
)


def test_it_is_what_torch_computes_where_batches_are_alike():
    batches = [images(seed) for seed in range(4)]
    found = SmallNet(dropout=0.0)
    expected = deepcopy(found)
    recalibrate_(found, batches)
    update_bn(batches, expected)
    assert torch.allclose(found.bn.running_mean, expected.bn.running_mean, atol=1e-6)
    assert torch.allclose(found.bn.running_var, expected.bn.running_var, atol=1e-6)


def test_batches_count_by_their_images_and_nothing_else_moves():
    net = SmallNet(dropout=0.5)
    before, modes = tensors(net), [module.training for module in net.modules()]
    recalibrate_(net, [images(0, 8), images(1, 2)])
    with torch.no_grad():
        means = [net.conv(images(seed, n)).mean(dim=(0, 2, 3)) for seed, n in ((0, 8), (1, 2))]
    assert torch.allclose(net.bn.running_mean, 0.8 * means[0] + 0.2 * means[1], atol=1e-6)
    after = tensors(net)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {"bn.running_mean", "bn.running_var"}
    assert [module.training for module in net.modules()] == modes


def test_a_norm_in_eval_mode_is_frozen():
    net = SmallNet()
    before = tensors(net.eval())
    recalibrate_(net, [images()])
    assert same(tensors(net), before)


def test_what_a_method_freezes_stays_frozen():
    torch.manual_seed(0)
    model = ClassifierOnly(SmallNet(dropout=0))
    model.recipes = RECIPES
    fit_method(model, "a", 0, callbacks=[RecalibrateNorms()])
    before = tensors(model.backbone)
    fit_method(model, "b", 1, callbacks=[RecalibrateNorms()])
    assert same(tensors(model.backbone), before)


def new_model(*tasks, seed=0, callbacks=lambda phase: [RecalibrateNorms()], **keeping):
    torch.manual_seed(seed)
    model = TaskClassifier(SmallNet(dropout=0), recipes=RECIPES, **keeping)
    for task in tasks:
        fit(model, task, callbacks)
    return model


def fit(model, task, callbacks=lambda phase: [RecalibrateNorms()], resume=None, **settings):
    if task not in model.tasks:
        torch.manual_seed(ord(task))
        model.add_task(task, num_classes=3)
    fit_task(
        model,
        loader(ord(task)),
        task=task,
        prune_ratio=0.5,
        make_trainer=lambda phase, own: quiet(own, *callbacks(phase), **{"max_epochs": 2, **settings}),
        resume=resume,
    )


class Ends(pl.Callback):
    """The live statistics when training ends, before anything is done about them."""

    def __init__(self):
        self.seen = []

    def on_train_end(self, trainer, module):
        self.seen.append(module.backbone.bn.running_mean.clone())


def exact(model, task):
    net = deepcopy(model.backbone).train()
    recalibrate_(net, [x for x, _ in loader(ord(task))])
    return net.bn.running_mean


def test_the_first_task_ends_with_them_and_later_ones_leave_them():
    model, ends = new_model(), Ends()
    fit(model, "a", lambda phase: [ends, RecalibrateNorms()])
    first = model.backbone.bn.running_mean.clone()
    assert not torch.allclose(first, ends.seen[1])
    assert torch.allclose(first, exact(model, "a"), atol=1e-6)
    fit(model, "b")
    assert torch.equal(model.backbone.bn.running_mean, first)
    model.packnet.verify()


def test_norms_of_each_task_are_each_tasks():
    model = new_model("a", "b", norm="per_task")
    model.packnet.verify()
    for task in "ab":
        with model.packnet.subnetwork(task):
            assert torch.allclose(model.backbone.bn.running_mean, exact(model, task), atol=1e-6)


def test_statistics_are_of_embedded_images_as_they_are_and_not_augmented():
    plain, test = samples(97), samples(1)
    split = augmented(plain, drawn_augmentation(AFFINE, AFFINE))
    shapes = ("x", "y", "z"), (1, 6, 6), (0.0,), (1.0,)
    data = TaskDataModule(TaskData(split, test, test, *shapes), key=(0, "a", "train"), batch_size=8)
    torch.manual_seed(0)
    model = ClassifierOnly(SmallNet(dropout=0))
    model.recipes = RECIPES
    fit_method(model, "a", data=data, callbacks=[RecalibrateNorms()])
    found = model.backbone.bn.running_mean.clone()
    recalibrate_(model.backbone.train(), [plain.tensors[0]])
    torch.testing.assert_close(found, model.backbone.bn.running_mean)
    recalibrate_(model.backbone, [torch.stack([image for image, _ in split])])
    assert not torch.allclose(found, model.backbone.bn.running_mean, rtol=1e-3)


@pytest.mark.parametrize("phase", ["train", "retrain"])
@pytest.mark.parametrize("epoch", [0, 1], ids=["in the middle", "behind the last checkpoint"])
def test_a_resumed_fit_ends_as_one_that_was_not_broken_off(tmp_path, phase, epoch):
    class Stop(SaveAndStop):
        def on_train_epoch_end(self, trainer, module):
            if module.phase == phase and trainer.current_epoch == epoch:
                super().on_train_epoch_end(trainer, module)

    def averaged(phase):
        return [EMAWeightAveraging(decay=0.5), RecalibrateNorms()]

    expected = new_model("a", callbacks=averaged)
    path = tmp_path / "last.ckpt"
    with pytest.raises(StoppedError):
        new_model("a", callbacks=lambda now: [*averaged(now), Stop(path)])
    resumed = new_model()
    fit(resumed, "a", averaged, resume=(phase, path))
    assert same(tensors(resumed), tensors(expected))
