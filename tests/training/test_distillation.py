"""Phase "retrain" learns from the network as it was before it was pruned."""

import math

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging
from torch import nn
from torch.nn.functional import cross_entropy

from packnet_pl import PackNetMixin, TaskClassifier, fit_task
from packnet_pl.training import DenseTeacher, Distillation, Recipe, Reseed, batch_mixing
from tests.support.fits import (
    MOMENTUM,
    OwnModule,
    SaveAndStop,
    SmallNet,
    StoppedError,
    bits,
    images,
    loader,
    quiet,
    same,
    samples,
    tensors,
)


def by_hand(logits, teacher, temperature):
    """KL(p || q) of softened predictions, mean over the batch; plain numbers."""

    def softened(row):
        whole = [math.exp(value / temperature) for value in row]
        return [value / math.fsum(whole) for value in whole]

    pairs = [(softened(t), softened(s)) for t, s in zip(teacher.tolist(), logits.tolist(), strict=True)]
    return math.fsum(a * math.log(a / b) for p, q in pairs for a, b in zip(p, q, strict=True)) / len(pairs)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0, 5])
@pytest.mark.parametrize("weight", [0.0, 0.3, 1])
def test_the_loss_is_that_of_the_paper(weight, temperature):
    generator = torch.Generator().manual_seed(0)
    for shape in ((1, 2), (4, 3), (7, 10)):
        logits, teacher = (2 * torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
        found = Distillation(weight, temperature)(torch.tensor(0.7, dtype=torch.float64), logits, teacher)
        expected = (1 - weight) * 0.7 + weight * temperature**2 * by_hand(logits, teacher, temperature)
        assert found.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("weight", [-0.1, 1.5, float("nan"), "x"])
def test_a_weight_that_is_no_share_is_refused(weight):
    with pytest.raises(ValueError, match=rf"weight of distillation is {weight!r}; allowed is a number in \[0, 1\]"):
        Distillation(weight)


@pytest.mark.parametrize("temperature", [0, -1.0, float("inf"), float("nan"), "warm"])
def test_a_temperature_that_is_none_is_refused(temperature):
    with pytest.raises(ValueError, match=rf"temperature is {temperature!r}; allowed is a finite number above 0"):
        Distillation(0.5, temperature)


def recipes(weight=0.5, **more):
    return {"train": Recipe(MOMENTUM, **more), "retrain": Recipe(MOMENTUM, distillation=Distillation(weight), **more)}


def new_model(*tasks, weight=0.5, seed=0, **keeping):
    torch.manual_seed(seed)
    model = TaskClassifier(SmallNet(), recipes=recipes(weight), **keeping)
    for task in tasks:
        fit(model, task)
    return model


def fit(model, task, *, callbacks=lambda phase: (), ratio=0.5, resume=None, **settings):
    if task not in model.tasks:
        torch.manual_seed(ord(task))
        model.add_task(task, num_classes=3)

    def make_trainer(phase, callback):
        seeded = Reseed(seed=0, task=task, phase=phase)
        return quiet(seeded, callback, *callbacks(phase), **{"max_epochs": 2, **settings})

    fit_task(model, loader(ord(task)), task=task, prune_ratio=ratio, make_trainer=make_trainer, resume=resume)


class Watch(pl.Callback):
    """What the teacher predicts in each batch of retraining, and what the network does when training ends."""

    def __init__(self):
        self.predicted, self.dense, self.losses = [], None, []

    def on_fit_end(self, trainer, module):
        if module.teacher.task is not None and self.dense is None:
            self.dense = bits(module.teacher(images()))

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        self.losses.append(outputs["loss"].item())
        if module.phase == "retrain":
            self.predicted.append(bits(module.teacher(images())))


@pytest.mark.parametrize("keeping", [{}, {"norm": "per_task", "bias": "per_task"}], ids=["shared", "per task"])
def test_the_teacher_is_the_dense_network_and_stays_it(keeping):
    model = new_model("a", **keeping)
    live = []

    class Dense(pl.Callback):
        def on_train_end(self, trainer, module):
            if module.phase == "train":
                module.packnet.restore_()
                with module.predicting("b") as logits, torch.no_grad():
                    live.append(bits(logits(images())))

    watch = Watch()
    names = list(model.state_dict())
    fit(model, "b", callbacks=lambda phase: (Dense(), watch))
    assert torch.equal(watch.dense, live[0])
    assert len(watch.predicted) == 8
    assert all(torch.equal(predicted, live[0]) for predicted in watch.predicted)
    assert [name for name in model.state_dict() if name not in names] == ["heads.head_1.weight", "heads.head_1.bias"]
    assert model.teacher.task is None
    with pytest.raises(ValueError, match="there is no dense network to distil from"):
        model.teacher(images())


def test_the_loss_of_a_batch_is_that_of_the_recipe_and_the_teachers_on_the_same_mixed_images():
    model = new_model()
    model.recipes = recipes(0.25, mixing=batch_mixing(3, mixup=0.5))
    found = []

    class Once(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            if module.phase == "retrain" and not found:
                module.eval()
                torch.manual_seed(5)
                x, y = module.recipes["retrain"].mixing(*batch)
                module.backbone.drop.p = 0.0
                module.train()
                logits = module(x)
                far = by_hand(logits, module.teacher(x), 2.0)
                found.append(0.75 * cross_entropy(logits, y).item() + 0.25 * 4 * far)
                torch.manual_seed(5)
                found.append(module.training_step(batch, batch_idx).item())

    fit(model, "a", callbacks=lambda phase: [Once()])
    assert found[1] == pytest.approx(found[0], rel=1e-4)
    assert model.eval().loss_and_logits(*samples()[:4])[0].item() == pytest.approx(
        cross_entropy(model(samples()[:4][0]), samples()[:4][1]).item()
    )


def test_without_it_no_callback_is_added_and_with_weight_zero_nothing_changes():
    plain = new_model()
    plain.recipes = {"train": Recipe(MOMENTUM), "retrain": Recipe(MOMENTUM)}
    assert plain.configure_callbacks() == []
    model = new_model(weight=0.0)
    other = new_model(weight=0.5)
    for task in "ab":
        for each in (plain, model, other):
            fit(each, task)
    assert same(tensors(plain), tensors(model))
    assert not same(tensors(plain), tensors(other))


def test_a_task_that_is_not_pruned_leaves_no_teacher():
    model = new_model()
    fit(model, "a", ratio=None)
    assert model.teacher.task is None


AVERAGES = {"plain": lambda: (), "averages": lambda: (EMAWeightAveraging(decay=0.5),)}


@pytest.mark.parametrize("averages", AVERAGES)
@pytest.mark.parametrize("phase", ["train", "retrain"])
def test_a_resumed_fit_ends_as_one_that_was_not_broken_off(tmp_path, phase, averages):
    """With the phase "train" it was killed between the phases, too: nothing of its second epoch is on disk."""
    expected = new_model("a", norm="per_task")
    fit(expected, "b", callbacks=lambda _: AVERAGES[averages]())
    path = tmp_path / "last.ckpt"
    with pytest.raises(StoppedError):
        fit(
            new_model("a", norm="per_task"),
            "b",
            callbacks=lambda now: (*AVERAGES[averages](), *([SaveAndStop(path)] if now == phase else [])),
        )
    saved = torch.load(path, weights_only=True)
    assert ("DenseTeacher" in saved["callbacks"]) == (phase == "retrain")
    # Lightning copies the module for an average before a checkpoint brings it heads.
    others = () if averages == "averages" else (new_model(seed=7, norm="per_task"),)
    for resumed in (new_model("a", norm="per_task"), *others):
        fit(resumed, "b", callbacks=lambda _: AVERAGES[averages](), resume=(phase, path))
        assert same(tensors(resumed), tensors(expected))
        assert resumed.teacher.task is None


def test_retraining_without_the_dense_network_is_refused(tmp_path):
    path = tmp_path / "last.ckpt"
    plain = new_model()
    plain.recipes = {"train": Recipe(MOMENTUM), "retrain": Recipe(MOMENTUM)}
    with pytest.raises(StoppedError):
        fit(plain, "a", callbacks=lambda phase: [SaveAndStop(path)] if phase == "retrain" else [])
    with pytest.raises(ValueError, match="there is no dense network to distil from"):
        fit(new_model(), "a", resume=("retrain", path))


def test_a_task_that_was_given_up_leaves_no_teacher_to_the_next_one():
    model = new_model()

    def stop(phase):
        return [Break()] if phase == "retrain" else []

    class Break(pl.Callback):
        def on_train_batch_end(self, *_):
            raise StoppedError

    with pytest.raises(StoppedError):
        fit(model, "a", callbacks=stop)
    assert model.teacher.task == "a"
    model.packnet.abort_task()
    seen = []

    class Look(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, batch_idx):
            seen.append((module.phase, module.teacher.task))

    fit(model, "b", callbacks=lambda phase: [Look()])
    assert set(seen) == {("train", None), ("retrain", "b")}


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true"])
def test_other_precisions(precision):
    model = new_model()
    for task in "ab":
        fit(model, task, precision=precision)
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


def head_and_body(module):
    return nn.Sequential(module.backbone, module.heads[module.task])


class Distils(PackNetMixin, OwnModule):
    """A module of a user's own, as the documentation has it."""

    def __init__(self):
        super().__init__()
        self.teacher, self.taught = DenseTeacher(head_and_body), []

    def configure_callbacks(self):
        return [self.teacher]

    def training_step(self, batch, batch_idx):
        x, y = batch
        logits = self(x)
        loss = cross_entropy(logits, y)
        self.taught.append(self.teacher.task)
        return Distillation(0.5)(loss, logits, self.teacher(x)) if self.teacher.task else loss


def test_a_module_of_a_users_own():
    module = Distils()
    for task in "ab":
        module.task = task
        fit_task(
            module,
            loader(ord(task)),
            task=task,
            prune_ratio=0.5,
            private=f"heads.{task}",
            make_trainer=lambda _, callback: quiet(callback),
        )
    assert module.taught == [*[None] * 4, *["a"] * 4, *[None] * 4, *["b"] * 4]
    module.packnet.verify(module)
