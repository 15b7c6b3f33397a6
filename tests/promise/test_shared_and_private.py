"""What is shared, what is private: tied weights, other heads, the whole module."""

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from packnet_pl import PackNet, PackNetCallback, fit_task
from tests.support.promise import checker
from tests.support.promise.checker import TASKS, Promise, Subject, asked, check_promise
from tests.support.promise.own_modules import MOMENTUM, fit_phase, quiet, trainer
from tests.support.promise.user_modules import (
    ADAMW,
    BuiltLater,
    UserModule,
    subject_of,
    vectors,
)
from tests.support.promise.user_networks import NETWORKS, VOCABULARY, detector, plain

pytestmark = [
    pytest.mark.promise("Modules"),
    *map(
        pytest.mark.filterwarnings,
        (
            "ignore:.*nested tensors is in prototype stage",
            "ignore:.*not supported with oneDNN",
            "ignore:.*is deprecated",
            "ignore:.*quant",
            "ignore:.*pin_memory",
        ),
    ),
]


@pytest.mark.promise("Modules", label="every task trains entries of a tied weight")
@pytest.mark.parametrize("name", [name for name in NETWORKS if name.startswith("an embedding tied")])
def test_every_task_trains_entries_of_a_tied_weight(name):
    """Not to be forgotten is not enough: the twin of a weight must not hold it still."""
    make, inputs = NETWORKS[name]
    module = UserModule(make(), 8)
    used = subject_of(module, inputs)
    promise = Promise(used, name)
    for task in TASKS:
        promise.fit(task, trainer=trainer())
    owner, weight = module.packnet.owners["output.weight"], module.backbone.output.weight
    assert "embed.weight" not in module.packnet.owners
    for number in (1, 2, 3):
        assert weight[owner == number].count_nonzero() > 0


@pytest.mark.promise("Modules", label="layers and PackNet built in configure_model")
def test_layers_built_in_configure_model():
    module = BuiltLater(plain)
    used, answers = subject_of(module, vectors()), {}

    def settled(module):
        answers["a"] = asked(used, "a")

    fit_task(
        module,
        used.data("a"),
        task="a",
        prune_ratio=0.5,
        private="heads.a",
        make_trainer=lambda _, callback: quiet(callback),
        settled=settled,
    )
    promise = Promise(used, "configure_model")
    for task in "bc":
        promise.fit(task, trainer=trainer())
    with module.packnet.subnetwork("a"):
        assert all(torch.equal(a, b) for a, b in zip(asked(used, "a"), answers["a"], strict=True))
    module.packnet.verify(module)


class Decoding(pl.LightningModule):
    """Each task has a decoder of its own, whose weight is a shared one."""

    def __init__(self, weight):
        super().__init__()
        self.embed, self.hidden = nn.Embedding(VOCABULARY, 8), nn.Linear(8, 8)
        self.backbone = nn.ModuleDict({"embed": self.embed, "hidden": self.hidden})
        del self.embed, self.hidden
        self.decoders = nn.ModuleDict({task: nn.Linear(8, 8) for task in TASKS})
        for decoder in self.decoders.values():
            decoder.weight = self.backbone["hidden"].weight if weight == "divided" else nn.Parameter(torch.randn(8, 8))
        if weight == "frozen":
            self.backbone["embed"] = nn.Embedding(8, 8)
            for decoder in self.decoders.values():
                decoder.weight = self.backbone["embed"].weight
        self.packnet, self.task = PackNet(self.backbone), "a"

    def forward(self, x):
        features = torch.tanh(
            self.backbone["hidden"](self.backbone["embed"](x % self.backbone["embed"].num_embeddings))
        )
        return self.decoders[self.task](features.mean(1))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self(batch[0]), batch[1])

    def configure_optimizers(self):
        return MOMENTUM(self.parameters())


@pytest.mark.promise("Modules", label="a private decoder tied to a shared weight")
@pytest.mark.parametrize("weight", ["divided", "frozen"])
def test_a_private_module_tied_to_a_shared_weight(weight):
    module = Decoding(weight)
    probe = torch.randint(8, (4, 5))

    def select(task):
        module.task = task

    def data(task):
        return DataLoader(TensorDataset(torch.randint(8, (24, 5)), torch.randint(8, (24,))), batch_size=8)

    used = Subject(module, data, lambda _: [module(probe)], select, lambda task: [f"decoders.{task}"])
    promise = Promise(used, f"a decoder tied to a {weight} weight")
    whole = checker.private_tensors

    def but_the_shared(subject, task):
        return {name: value for name, value in whole(subject, task).items() if not name.endswith("weight")}

    with pytest.MonkeyPatch.context() as patch:
        # The shared weight goes on with later tasks; the decoder shows it through subnetwork().
        patch.setattr(checker, "private_tensors", but_the_shared)
        for task in TASKS:
            promise.fit(task, trainer=trainer())
    assert module.decoders["a"].bias.abs().sum() > 0
    module.packnet.verify(module)


class AllHeads(UserModule):
    """Runs the heads of all tasks in each step, finished ones too, and keeps what they say."""

    def __init__(self, moves):
        super().__init__(plain(), 8)
        self.heads = nn.ModuleDict({task: Remembering(moves) for task in TASKS})

    def training_step(self, batch, batch_idx):
        features = self.backbone(batch[0])
        answers = {task: head(features) for task, head in self.heads.items()}
        others = sum(answer.square().mean() for task, answer in answers.items() if task != self.task)
        return F.cross_entropy(answers[self.task], batch[1]) + 0.1 * others


class Remembering(nn.Module):
    """A head with batch-norm and a buffer of its own, which it moves in training."""

    def __init__(self, moves):
        super().__init__()
        self.norm, self.fc, self.moves = nn.BatchNorm1d(8), nn.Linear(8, 3), moves
        self.register_buffer("seen", torch.zeros(3))

    def forward(self, x):
        x = self.fc(self.norm(x))
        if self.training and self.moves == "in place":
            self.seen += x.detach().mean(0)
        elif self.training and self.moves == "by replacing it":
            self.seen = self.seen + x.detach().mean(0)
        elif self.training:
            self.seen.data += x.detach().mean(0)
        return x + self.seen


@pytest.mark.promise("Modules", label="heads of finished tasks that run in training, and move a buffer")
@pytest.mark.parametrize("moves", ["in place", "by replacing it", "through .data"])
def test_heads_of_finished_tasks_that_run_in_training(moves):
    used = subject_of(AllHeads(moves), vectors())
    check_promise(used, f"all heads, a buffer moved {moves}", trainer=trainer(), free="heads")


class WholeShared(pl.LightningModule):
    """All of it is shared, with a metric and the weights of a loss in it."""

    def __init__(self):
        super().__init__()
        self.net, self.head = plain(), nn.Linear(8, 3)
        self.accuracy = MulticlassAccuracy(3)
        self.accuracy.persistent(True)
        self.criterion = nn.CrossEntropyLoss(torch.tensor([1.0, 2.0, 0.5]))
        self.packnet = PackNet(self)

    def forward(self, x):
        return self.head(self.net(x))

    def training_step(self, batch, batch_idx):
        answer = self(batch[0])
        self.accuracy(answer, batch[1])
        self.log("accuracy", self.accuracy, on_step=False, on_epoch=True)
        return self.criterion(answer, batch[1])

    def configure_optimizers(self):
        return MOMENTUM(self.parameters())


@pytest.mark.promise("Modules", label="PackNet(self): a metric and the weights of a loss inside")
def test_the_whole_module_is_shared():
    module, probe = WholeShared(), torch.randn(4, 8)
    data = subject_of(UserModule(plain(), 8), vectors()).data
    check_promise(Subject(module, data, lambda _: [module(probe)]), "PackNet(self)", trainer=trainer())


class Detector(pl.LightningModule):
    """In training the network returns losses, and boxes else."""

    def __init__(self):
        super().__init__()
        self.net = detector()
        self.packnet = PackNet(self.net)

    def training_step(self, batch, batch_idx):
        images, boxes, labels = batch
        targets = [{"boxes": box, "labels": label} for box, label in zip(boxes, labels, strict=True)]
        return sum(self.net(list(images), targets).values())

    def configure_optimizers(self):
        return ADAMW(self.parameters())


@pytest.mark.promise("Modules", label="torchvision RetinaNet (detection, losses in training, boxes else)")
def test_a_detector():
    module, probe = Detector(), torch.rand(2, 3, 32, 32)
    boxes = torch.tensor([[[2.0, 2.0, 20.0, 20.0]]]).repeat(6, 1, 1)

    def data(task):
        return DataLoader(TensorDataset(torch.rand(6, 3, 32, 32), boxes, torch.ones(6, 1, dtype=int)), batch_size=2)

    def ask(_):
        return [found[key] for found in module.net(list(probe)) for key in ("boxes", "scores")]

    check_promise(Subject(module, data, ask), "detection", trainer=trainer())


@pytest.mark.promise("Modules", status="refused", label="a shared module that was replaced after PackNet was made")
def test_a_shared_module_that_was_replaced():
    module = UserModule(plain(), 8)
    module.backbone = plain()
    with pytest.raises(ValueError, match="PackNet"):
        fit_phase(module, "a", data=subject_of(module, vectors()).data("a"))
    assert module.packnet.open_task is None


@pytest.mark.promise("Modules", status="refused", label="PackNet(self), and a private module inside")
def test_a_private_module_inside_the_shared_one():
    module = UserModule(plain(), 8)
    module.packnet = PackNet(module)
    with pytest.raises(ValueError, match=r"heads\.a.*inside the shared module"):
        fit_phase(module, "a", data=subject_of(module, vectors()).data("a"))
    assert module.packnet.open_task is None


@pytest.mark.promise("Modules", status="refused", label="a private module that belongs to a finished task")
def test_a_private_module_of_a_finished_task():
    module = UserModule(plain(), 8)
    used = subject_of(module, vectors())
    Promise(used, "all heads private").fit("a", trainer=trainer())
    module.task = "b"
    callback = PackNetCallback(task="b", phase="train", private="heads")
    with pytest.raises(ValueError, match=r"private='heads'.*'a'"):
        quiet(callback).fit(module, used.data("b"))
    assert module.packnet.open_task is None


@pytest.mark.promise("Modules", label="a private module that takes shape in the fit (lazy)")
def test_a_lazy_private_module():
    module = UserModule(plain(), 8)
    module.heads = nn.ModuleDict({task: nn.LazyLinear(3) for task in TASKS})
    check_promise(subject_of(module, vectors()), "lazy heads", trainer=trainer())
