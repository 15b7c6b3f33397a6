"""Nothing is forgotten where tasks learn which weights of earlier tasks they compute with."""

from contextlib import nullcontext
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EMAWeightAveraging, ModelCheckpoint, StochasticWeightAveraging
from torch import nn, optim

from packnet_pl import PackNetCallback, PruneRule, TaskClassifier
from packnet_pl.models import vgg_small
from packnet_pl.training import Recipe
from tests.support.promise.checker import Promise, bits, check_promise
from tests.support.promise.masks import MASK, masked_subject
from tests.support.promise.own_modules import MOMENTUM, quiet, trainer
from tests.support.promise.user_modules import ADAMW, UserModule

pytestmark = pytest.mark.promise("Learned masks")

OPTIMIZERS = {"SGD with momentum and decay": MOMENTUM, "AdamW": ADAMW}
SETTINGS = {
    "bf16-mixed": {"precision": "bf16-mixed"},
    "gradients accumulated over 2 batches, clipping": {"accumulate_grad_batches": 2, "gradient_clip_val": 0.1},
}
AVERAGES = {
    "EMA": lambda: EMAWeightAveraging(decay=0.5),
    "SWA": lambda: StochasticWeightAveraging(swa_lrs=1e-3, swa_epoch_start=1),
}


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4)
        self.fc1, self.fc2 = nn.Linear(4 * 36, 12), nn.Linear(12, 8)

    def forward(self, x):
        return self.fc2(torch.tanh(self.fc1(torch.tanh(self.bn(self.conv(x))).flatten(1))))


def module(optimizer=MOMENTUM, **packnet):
    torch.manual_seed(0)
    return UserModule(Net(), 8, optimizer=optimizer, **packnet)


def check(used, setting, *, make=None, **fit):
    check_promise(used, setting, trainer=make or trainer(max_epochs=2), mask=MASK, **fit)
    packnet = used.module.packnet
    assert packnet.unused.keys() == {"b", "c"}, "no task has a mask: the check would be empty"
    packnet.verify(used.module)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_optimizers(optimizer):
    check(masked_subject(module(OPTIMIZERS[optimizer])), optimizer)


@pytest.mark.parametrize("setting", SETTINGS)
def test_settings_of_the_trainer(setting):
    check(masked_subject(module()), setting, make=trainer(max_epochs=2, **SETTINGS[setting]))


@pytest.mark.promise("Learned masks", label="an average, validated each epoch")
@pytest.mark.parametrize("average", AVERAGES)
def test_averages(average):
    used = with_validation(masked_subject(module()))
    check(used, average, make=trainer(AVERAGES[average], max_epochs=3), strict=False)


@pytest.mark.promise("Learned masks", label="norms and biases per task")
def test_norms_per_task():
    check(masked_subject(module(norm="per_task", bias="per_task")), "per task")


@pytest.mark.promise("Learned masks", label="prune schedule 'learned'")
@pytest.mark.parametrize("mask", ["all", MASK], ids=["all earlier weights", "a learned mask"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_pruning_that_is_learned(optimizer, mask):
    rule = PruneRule(schedule="learned", scope="global")
    used = with_validation(masked_subject(module(OPTIMIZERS[optimizer])))
    make = trainer(max_epochs=2, accumulate_grad_batches=2)
    check_promise(used, "schedule='learned'", trainer=make, rule=rule, mask=mask)
    assert bool(used.module.packnet.unused) == (mask is MASK)


class FallingAccuracy(UserModule):
    """The first epoch is the best one, so that masks are learned on after it."""

    def validation_step(self, batch, batch_idx):
        self.log("val_accuracy", -float(self.current_epoch), batch_size=1)


class Scores(pl.Callback):
    """The scores of the mask after each epoch of phase "train". Comes before PackNet's callback."""

    def __init__(self):
        self.after = []

    def on_validation_end(self, trainer, pl_module):
        self.after.append({name: score.clone() for name, score in pl_module.packnet.mask_scores.items()})


@pytest.mark.promise("Learned masks", label="select='best', an epoch that is not the last")
def test_the_best_epoch():
    torch.manual_seed(0)
    used = with_validation(masked_subject(FallingAccuracy(Net(), 8)))
    seen = []

    def make(*callbacks):
        seen.append(Scores())
        return quiet(seen[-1], *callbacks, max_epochs=4)

    check(used, "select='best'", make=make, select="best")
    packnet = used.module.packnet
    of_b = seen[2].after  # after both phases of a
    assert any((of_b[0][name] < 0).ne(of_b[-1][name] < 0).any() for name in of_b[0]), "the mask stood still"
    for name, score in of_b[0].items():
        entries = packnet.unused["b"].get(name, torch.zeros_like(score, dtype=torch.bool))
        assert torch.equal(entries, (score < 0) & (packnet.owners[name] == 1)), name


@pytest.mark.promise("Learned masks", label="TaskClassifier")
def test_task_classifier():
    torch.manual_seed(3)
    recipe = Recipe(MOMENTUM)
    model = TaskClassifier(
        vgg_small(image_size=8, stages=((4,), (6,)), hidden=8), recipes={"train": recipe, "retrain": recipe}
    )
    data = masked_subject(module()).data
    images = torch.linspace(-1, 1, 256).reshape(4, 1, 8, 8)
    promise_subject = masked_subject(module())
    promise_subject.module, promise_subject.data = model, data

    def ask(task):
        is_open = model.packnet.open_task == task
        with model.packnet.masked() if is_open else nullcontext():
            features = model.backbone(images)
        return [model.heads[task](features)]

    def select(task):
        if task not in model.tasks:
            model.add_task(task, num_classes=3)
        model.select_task(task)

    promise_subject.ask, promise_subject.select, promise_subject.private = ask, select, model.private_modules
    promise = Promise(promise_subject, "TaskClassifier")
    for task in "abc":
        promise.fit(task, trainer=trainer(max_epochs=2), mask=MASK)
    assert model.packnet.unused.keys() == {"b", "c"}
    for task in "abc":
        assert torch.equal(bits(model(images, task=task)), promise.finished[task].answers[0])
        with model.predicting(task) as predict:
            assert torch.equal(bits(predict(images)), promise.finished[task].answers[0])


@pytest.mark.promise("Learned masks", label="resumed in the middle of phase 'train', from a checkpoint")
def test_resumed(tmp_path):
    """To the bit as without a break: scores and the state of their optimizer are in the checkpoint."""
    used = masked_subject(module())
    promise = Promise(used, "resumed")
    promise.fit("a", trainer=trainer(max_epochs=2), mask=MASK)
    used.select("b")
    saving = ModelCheckpoint(tmp_path, filename="{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    quiet(train("b"), saving, max_epochs=4, enable_checkpointing=True).fit(used.module, used.data("b"))

    again = masked_subject(module())
    again.select("b")
    quiet(train("b"), max_epochs=4).fit(
        again.module, again.data("b"), ckpt_path=tmp_path / "epoch=1.ckpt", weights_only=True
    )
    straight, resumed = used.module.packnet, again.module.packnet
    assert straight.unused.keys() == {"b"}
    for name, packed in straight.state.masks["b"].items():
        assert torch.equal(packed, resumed.state.masks["b"][name]), name
    there, here = used.module.state_dict(), again.module.state_dict()
    assert all(torch.equal(bits(there[name]), bits(here[name])) for name in there)
    promise.subject = again
    promise.fit("b", trainer=trainer())
    assert resumed.unused.keys() == {"b"}, "the retraining computes with the mask, whatever its callback was given"


def train(task, **given):
    return PackNetCallback(
        task=task, phase="train", prune_ratio=0.5, private=f"heads.{task}", **{"mask": MASK, **given}
    )


class Manual(UserModule):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.automatic_optimization = False


LEARNED = {"mask": None, "rule": PruneRule(schedule="learned")}
REFUSED = {
    "LBFGS, which asks for the loss several times": (UserModule, partial(optim.LBFGS, max_iter=3), {}, "several times"),
    "manual optimization": (Manual, MOMENTUM, {}, "needs automatic optimization"),
    "prune schedule 'learned', LBFGS": (UserModule, partial(optim.LBFGS, max_iter=3), LEARNED, "several times"),
    "prune schedule 'learned', manual optimization": (Manual, MOMENTUM, LEARNED, "needs automatic optimization"),
}


@pytest.mark.promise("Learned masks", status="refused")
@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    kind, optimizer, given, match = REFUSED[case]
    torch.manual_seed(0)
    used = masked_subject(kind(Net(), 8))
    used.module.automatic_optimization = True
    Promise(used, case).fit("a", trainer=trainer())
    used.module.automatic_optimization, used.module.make_optimizer = kind is UserModule, optimizer
    used.select("b")
    before = {name: bits(value) for name, value in used.module.state_dict().items()}
    with pytest.raises(ValueError, match=match):
        quiet(train("b", **given)).fit(used.module, used.data("b"))
    assert used.module.packnet.open_task is None
    assert all(torch.equal(bits(value), before[name]) for name, value in used.module.state_dict().items())


def with_validation(used):
    plain = used.data
    used.data = lambda task: pl.LightningDataModule.from_datasets(
        plain(task).dataset, plain(task).dataset, batch_size=8
    )
    return used
