"""What a LightningModule has outside the shared part and the tasks' own modules does not learn unnoticed."""

import copy

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn, optim
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy
from torchmetrics.regression import MeanSquaredError

from packnet_pl import fit_task
from tests.support.promise.checker import bits, check_promise
from tests.support.promise.own_modules import MOMENTUM, quiet, trainer
from tests.support.promise.user_modules import UserModule, subject_of, vectors


def shared():
    return nn.Sequential(nn.Linear(8, 12), nn.BatchNorm1d(12), nn.ReLU(), nn.Linear(12, 8))


class WithNeck(UserModule):
    """Between the shared part and the heads lies something that is neither."""

    def __init__(self, neck):
        super().__init__(shared(), 8, optimizer=optim.AdamW)
        self.neck = neck
        self.read = lambda features: self.neck(features)


class WithScale(UserModule):
    def __init__(self):
        super().__init__(shared(), 8)
        self.scale = nn.Parameter(torch.ones(8))
        self.read = lambda features: features * self.scale


class OneHead(UserModule):
    """One head for all tasks; those in ``heads`` are not used."""

    def __init__(self):
        super().__init__(shared(), 8)
        self.head = nn.Linear(8, 3)

    def forward(self, x):
        return self.head(self.backbone(x))


class SharedInHeads(UserModule):
    def __init__(self):
        super().__init__(shared(), 8)
        self.heads["projection"] = nn.Linear(8, 8)
        self.read = lambda features: self.heads["projection"](features)


class LearnedLoss(UserModule):
    def __init__(self):
        super().__init__(shared(), 8)
        self.criterion = nn.ModuleDict({"proxies": nn.Linear(3, 3)})

    def loss(self, batch):
        return F.cross_entropy(self.criterion["proxies"](self(batch[0])), batch[1])


class CountsSteps(UserModule):
    def __init__(self):
        super().__init__(shared(), 8)
        self.register_buffer("seen", torch.zeros(()))

    def training_step(self, batch, batch_idx):
        self.seen += 1
        return super().training_step(batch, batch_idx)


class Average(UserModule):
    """Keeps a moving average of its shared part, which it moves after each batch."""

    def __init__(self):
        super().__init__(shared(), 8)
        self.average = copy.deepcopy(self.backbone).requires_grad_(False)

    def on_train_batch_end(self, *_):
        for mine, its in zip(self.average.parameters(), self.backbone.parameters(), strict=True):
            mine.lerp_(its.detach(), 0.1)


class ByHand(WithNeck):
    """Steps plain optimizers, past Lightning."""

    def __init__(self):
        super().__init__(nn.Linear(8, 8))
        self.automatic_optimization = False

    def configure_optimizers(self):
        return [MOMENTUM(self.backbone.parameters()), MOMENTUM([*self.neck.parameters(), *self.heads.parameters()])]

    def training_step(self, batch, batch_idx):
        self.loss(batch).backward()
        for optimizer in self.trainer.optimizers:
            optimizer.step()
            optimizer.zero_grad()


class Adversary(WithNeck):
    """Two optimizers: what one trains, the other is to fool."""

    def __init__(self):
        super().__init__(nn.Identity())
        self.automatic_optimization, self.adversary = False, nn.Linear(8, 1)

    def configure_optimizers(self):
        net = [*self.backbone.parameters(), *self.heads.parameters()]
        return [MOMENTUM(net), MOMENTUM(self.adversary.parameters())]

    def training_step(self, batch, batch_idx):
        mine, its = self.optimizers()
        for optimizer, sign in ((mine, 1), (its, -1)):
            optimizer.zero_grad()
            self.manual_backward(self.loss(batch) + sign * self.adversary(self.backbone(batch[0])).mean())
            optimizer.step()


class BuiltLate(WithNeck):
    def __init__(self):
        super().__init__(None)

    def configure_model(self):
        self.neck = self.neck or nn.Linear(8, 8)


class AllHeads(UserModule):
    def training_step(self, batch, batch_idx):
        features = self.backbone(batch[0])
        return sum(F.cross_entropy(head(features), batch[1]) for head in self.heads.values())


LEARNING = {
    "a trained neck": (lambda: WithNeck(nn.Sequential(nn.Linear(8, 8), nn.Tanh())), "neck.0.weight", "neck"),
    "a parameter of the LightningModule": (WithScale, "scale", "scale"),
    "a head that all tasks have together": (OneHead, "head.weight", "head"),
    "a layer beside the heads": (SharedInHeads, "heads.projection.weight", "heads.projection"),
    "a loss that learns": (LearnedLoss, "criterion.proxies.weight", "criterion"),
    "running statistics alone": (
        lambda: WithNeck(nn.BatchNorm1d(8, affine=False)),
        "neck.running_mean",
        "neck",
    ),
    "statistics of a norm with frozen parameters": (
        lambda: WithNeck(nn.Sequential(nn.BatchNorm1d(8)).requires_grad_(False)),
        "neck.0.running_mean",
        "neck.0",
    ),
    "a buffer that the module counts in": (CountsSteps, "seen", "seen"),
    "an average that is kept in the module": (Average, "average.0.weight", "average"),
    "a neck, stepped past Lightning (manual optimization)": (ByHand, "neck.weight", "neck"),
    "an adversary with its own optimizer (manual optimization)": (Adversary, "adversary.weight", "adversary"),
    "a neck that configure_model builds": (BuiltLate, "neck.weight", "neck"),
    "a neck that takes shape in the fit (lazy)": (lambda: WithNeck(nn.LazyLinear(8)), "neck.weight", "neck"),
}


def fit(module, task, private="heads", **kwargs):
    module.task = task
    fit_task(
        module,
        subject_of(module, vectors()).data(task),
        task=task,
        prune_ratio=0.5,
        private=[f"{private}.{task}"],
        make_trainer=lambda _, callback: quiet(callback),
        **kwargs,
    )


def everything(module, but):
    """All that a refused fit must leave alone, without what it had to build."""
    packnet = module.packnet
    tensors = {n: t for n, t in module.state_dict().items() if not (but and n.startswith(but))}
    return {
        "tensors": {name: bits(tensor).tolist() for name, tensor in tensors.items()},
        "owners": {name: owner.tolist() for name, owner in packnet.owners.items()},
        "tasks": (packnet.tasks, packnet.open_task, packnet.phase, packnet.private),
        "hooks": [len(layer._forward_pre_hooks) for layer in packnet.module.modules()],
    }


@pytest.mark.promise("Outside the shared part", status="refused", label="at the first fit")
@pytest.mark.parametrize("what", LEARNING)
@pytest.mark.filterwarnings("ignore:.*Lazy modules", "ignore:.*never got a gradient")
def test_what_learns_outside_is_refused_at_the_first_fit_and_allowed_when_it_is_free(what):
    make, name, holder = LEARNING[what]
    module, built = make(), "neck" if "configure_model" in what or "lazy" in what else None
    before = everything(module, but=built)
    with pytest.raises(ValueError, match=rf"^{name} .*'a'.*private=\['heads\.a'.*free=\['{holder}'\]"):
        fit(module, "a")
    assert everything(module, but=built) == before
    fit(module, "a", free=holder)
    fit(module, "b", free=holder)
    assert module.packnet.tasks == ["a", "b"]
    module.packnet.verify(module)


@pytest.mark.promise(
    "Outside the shared part", status="refused", label="heads of tasks to come, which are trained along"
)
def test_heads_of_tasks_to_come_that_get_a_gradient():
    module = AllHeads(shared(), 8)
    with pytest.raises(ValueError, match=r"^heads\.b\.weight and 3 more .*free=\['heads\.b', 'heads\.c'\]"):
        fit(module, "a")
    assert module.packnet.open_task is None
    check_promise(subject_of(module, vectors()), "all heads", trainer=trainer(), free="heads")


@pytest.mark.promise(
    "Outside the shared part", status="refused", label="a neck, at the second fit of an older checkpoint"
)
def test_a_neck_at_the_second_fit():
    module = WithNeck(nn.Linear(8, 8))
    fit(module, "a", free="neck")
    before = everything(module, but=None)
    with pytest.raises(
        ValueError, match=r"^neck\.weight .*'b'.*private=\['heads\.b', 'neck'\], one of its own for each"
    ):
        fit(module, "b")
    assert everything(module, but=None) == before


@pytest.mark.promise(
    "Outside the shared part", status="holds", label="a neck that is the first task's own, and frozen with it"
)
def test_a_neck_that_is_private():
    module = WithNeck(nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)))
    used = subject_of(module, vectors())
    used.private = lambda task: [f"heads.{task}", *(["neck"] if task == "a" else [])]
    check_promise(used, "a neck of the first task", trainer=trainer())


class WithState(WithNeck):
    """Class weights, an input mean, a frozen layer, metrics: what other modules have."""

    def __init__(self):
        super().__init__(nn.Sequential(nn.Linear(8, 8), nn.BatchNorm1d(8)).requires_grad_(False).eval())
        self.criterion = nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 0.5]))
        self.register_buffer("mean", torch.full((8,), 0.1))
        self.accuracy, self.errors = MulticlassAccuracy(3), MetricCollection([MeanSquaredError()])
        self.errors.persistent(True)
        self.spare = nn.Linear(8, 8)

    def on_train_start(self):
        self.mean.fill_(0.2)

    def training_step(self, batch, batch_idx):
        logits = self(batch[0] - self.mean)
        self.log("accuracy", self.accuracy(logits, batch[1]))
        self.errors(logits[:, 0].detach(), batch[1].float())
        return self.criterion(logits, batch[1]) + 0.0 * self.spare(batch[0]).sum()


@pytest.mark.promise(
    "Outside the shared part",
    status="holds",
    label="class weights, an input mean, a frozen layer, metrics, unused layers",
)
@pytest.mark.filterwarnings("error:.*neither to the shared part")
def test_state_that_does_not_change_is_held():
    module = WithState()
    probe = torch.randn(4, 8)
    used = subject_of(module, vectors())
    used.ask = lambda task: [module(probe - module.mean)]
    check_promise(used, "state outside", trainer=trainer(max_epochs=2))
    assert module.mean.tolist() == pytest.approx([0.2] * 8)
