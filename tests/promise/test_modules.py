"""Nothing is forgotten in modules that nobody here wrote."""

import pytest
import pytorch_lightning as pl
import torch
import torch.distributed as dist
import torch.nn.functional as F  # noqa: N812
from pytorch_lightning.demos.boring_classes import BoringModel, DemoModel, ManualOptimBoringModel, RandomDataset
from pytorch_lightning.demos.lstm import LightningLSTM, SimpleLSTM
from pytorch_lightning.demos.transformer import LightningTransformer, Transformer
from torch import nn, optim
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Replicate, distribute_tensor
from torch.testing._internal.two_tensor import TwoTensor
from torch.utils.data import DataLoader, TensorDataset
from torchmetrics.classification import MulticlassAccuracy

from packnet_pl import CapacityError, PackNet, PackNetCallback, fit_task
from tests.support.promise import checker
from tests.support.promise.checker import TASKS, Promise, Subject, asked, check_promise
from tests.support.promise.own_modules import MOMENTUM, fit_phase, quiet, trainer
from tests.support.promise.user_modules import (
    ADAMW,
    BuiltLater,
    UserModule,
    asked_once,
    images,
    subject_of,
    tokens,
    vectors,
)
from tests.support.promise.user_networks import NETWORKS, TIMM, VOCABULARY, detector, plain, quantization_aware

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

plain_bits = checker.bits


@pytest.fixture(autouse=True)
def _bits_of_anything(monkeypatch):
    """The checker compares dense real tensors; some modules have others, or what is no tensor, in their state dict."""

    def bits(found):
        if not isinstance(found, torch.Tensor):
            return plain_bits(torch.tensor(list(repr(found).encode())))
        if found.layout != torch.strided:
            found = found.to_dense()
        return plain_bits(torch.view_as_real(found) if found.is_complex() else found)

    monkeypatch.setattr(checker, "bits", bits)


@pytest.fixture
def _state_by_attribute(monkeypatch):
    """For modules whose state dict does not say what they hold."""

    def used_by(packnet, number):
        found = {}
        for name, tensor in [*packnet.module.named_parameters(), *packnet.module.named_buffers()]:
            owner = packnet.owners.get(name)
            found[name] = plain_bits(tensor if owner is None else tensor[(owner > 0) & (owner <= number)])
        return found

    monkeypatch.setattr(checker, "used_by", used_by)


@pytest.mark.parametrize("name", NETWORKS)
def test_network(name, request):
    if "state dict" in name:
        request.getfixturevalue("_state_by_attribute")
    make, inputs, *read = NETWORKS[name]
    settings = {"read": read[0]} if read else {}
    if "sparse gradients" in name:
        settings["optimizer"] = lambda parameters: optim.SGD(parameters, lr=0.05, momentum=0.9)
    module = UserModule(make(), 8, **settings)
    check_promise(subject_of(module, inputs), name, trainer=trainer())


@pytest.mark.parametrize("name", TIMM)
def test_timm(name):
    make, side = TIMM[name]
    backbone = make()
    module = UserModule(backbone, backbone.num_features, optimizer=ADAMW)
    check_promise(subject_of(module, images(3, side), n=12), name, trainer=trainer(), tasks=("a", "b"))


class AskInside(pl.Callback):
    """Asks a finished task while another one is trained."""

    def __init__(self, used, answers):
        self.used, self.answers = used, answers

    def on_train_batch_end(self, trainer, pl_module, *_):
        packnet, task = pl_module.packnet, pl_module.task
        for finished, answers in self.answers.items():
            with packnet.subnetwork(finished):
                now = asked(self.used, finished)
            assert all(torch.equal(a, b) for a, b in zip(now, answers, strict=True)), f"{finished} while {task} trains"
        self.used.select(task)


@pytest.mark.promise("Modules", label="asked while another task is trained")
@pytest.mark.parametrize(
    "name", ["RNN", "MultiheadAttention", "GRU over packed sequences", "ParameterList, ParameterDict, bare parameters"]
)
def test_a_network_that_is_asked_while_another_task_is_trained(name):
    make, inputs, *_ = NETWORKS[name]
    module = UserModule(make(), 8)
    used, answers = subject_of(module, inputs), {}
    promise = Promise(used, name)
    for task in TASKS:
        promise.fit(task, trainer=trainer(lambda: AskInside(used, answers)))
        answers[task] = promise.finished[task].answers


def check_demo(module, data, ask, name, **settings):
    check_promise(Subject(module, data, ask), name, trainer=trainer(**settings), tasks=("a", "b"))


BORING = {"BoringModel": BoringModel, "ManualOptimBoringModel": ManualOptimBoringModel, "DemoModel": DemoModel}


@pytest.mark.promise("Modules", label="Lightning's demos, all of the LightningModule shared")
@pytest.mark.parametrize("name", BORING)
def test_boring_demo(name):
    module = BORING[name]()
    module.packnet = PackNet(module)
    probe = torch.randn(4, 32)
    data = {task: DataLoader(RandomDataset(32, 24), batch_size=8) for task in "ab"}
    check_demo(module, data.get, lambda _: [module(probe)], name)


@pytest.mark.promise("Modules", label="Lightning's demos, a module of the LightningModule shared: BoringModel")
def test_boring_demo_with_a_shared_module():
    module = BoringModel()
    module.packnet = PackNet(module.layer)
    probe = torch.randn(4, 32)
    data = {task: DataLoader(RandomDataset(32, 24), batch_size=8) for task in "ab"}
    check_demo(module, data.get, lambda _: [module(probe)], "BoringModel.layer")


@pytest.mark.promise("Modules", label="Lightning's demos, all of the LightningModule shared: LightningTransformer")
def test_transformer_demo():
    module = LightningTransformer(vocab_size=VOCABULARY)
    module.model = Transformer(VOCABULARY, ninp=8, nhead=2, nhid=8, nlayers=1)
    module.prepare_data = lambda: None
    module.packnet = PackNet(module)
    probe = torch.randint(VOCABULARY, (2, 2, 5))
    words = {task: TensorDataset(*torch.randint(VOCABULARY, (2, 12, 5))) for task in "ab"}
    data = {task: DataLoader(text, batch_size=4) for task, text in words.items()}
    check_demo(module, data.get, lambda _: [module(*probe)], "LightningTransformer")


@pytest.mark.promise("Modules", label="Lightning's demos, a module of the LightningModule shared: LightningLSTM")
def test_lstm_demo():
    module = LightningLSTM(vocab_size=VOCABULARY)
    module.model = SimpleLSTM(VOCABULARY, ninp=8, nhid=8, nlayers=2)
    module.prepare_data = lambda: None
    module.packnet = PackNet(module.model)
    probe = torch.randint(VOCABULARY, (4, 5))
    words = {task: TensorDataset(*torch.randint(VOCABULARY, (2, 12, 5))) for task in "ab"}
    data = {task: DataLoader(text, batch_size=4) for task, text in words.items()}

    def ask(_):
        return [module.model(probe, module.model.init_hidden(4))[0]]

    check_demo(module, data.get, ask, "LightningLSTM", gradient_clip_val=0.25)


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


@pytest.mark.promise("Modules", label="a network prepared for quantization-aware training")
def test_quantization_aware_training():
    module = UserModule(quantization_aware(), 8)
    check_promise(asked_once(module, subject_of(module, images())), "quantization-aware", trainer=trainer())


@pytest.mark.promise("Modules", label="observers that run in eval mode between two tasks, outside subnetwork()")
def test_observers_between_tasks():
    module = UserModule(quantization_aware(), 8)
    used = asked_once(module, subject_of(module, images()))
    promise = Promise(used, "observers between tasks")
    for task in TASKS:
        promise.fit(task, trainer=trainer())
        module.eval()
        module.backbone(3 * torch.randn(8, 1, 8, 8))
        promise.check(after=f"{task}, and an eval pass")
        module.backbone(3 * torch.randn(8, 1, 8, 8))
        module.packnet.state_dict(module)
    module.packnet.verify(module)


@pytest.mark.promise(
    "Modules", status="noticed", label="a layer that writes to a buffer in eval mode, between two tasks"
)
def test_a_layer_that_counts_in_eval_mode():
    class Counts(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("seen", torch.zeros(()))

        def forward(self, x):
            self.seen += 1
            return x + 0.01 * self.seen

    module = UserModule(nn.Sequential(*plain(), Counts()), 8)
    used = asked_once(module, subject_of(module, vectors()))
    Promise(used, "counts").fit("a", trainer=trainer())
    module.eval()
    module.backbone(torch.randn(4, 8))
    with pytest.raises(RuntimeError, match=r"^5\.seen is not .* writes to its buffers in eval mode too"):
        fit_phase(module, "b", data=used.data("b"))
    assert module.packnet.open_task is None


class MovingGain(nn.Module):
    """Multiplies with a buffer, which it replaces in each forward pass of training: the graph needs it."""

    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(8, 8)
        self.register_buffer("gain", torch.ones(8))

    def forward(self, x):
        if self.training:
            self.gain = 0.9 * self.gain + 0.1 * x.detach().std(0)
        return self.fc(x) * self.gain


class GraphsBuiltBefore(UserModule):
    """Builds the graphs for both of its optimizers, then steps them."""

    def __init__(self):
        super().__init__(nn.ModuleDict({"left": MovingGain(), "right": MovingGain()}), 8)
        self.automatic_optimization = False

    def forward(self, x):
        return self.heads[self.task](self.backbone["left"](x))

    def configure_optimizers(self):
        left, right = self.backbone["left"], self.backbone["right"]
        return [MOMENTUM([*left.parameters(), *self.heads.parameters()]), MOMENTUM(right.parameters())]

    def training_step(self, batch, batch_idx):
        losses = F.cross_entropy(self(batch[0]), batch[1]), self.backbone["right"](batch[0]).square().mean()
        for optimizer, loss in zip(self.optimizers(), losses, strict=True):
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()


@pytest.mark.promise(
    "Modules", label="two optimizers, graphs built before a step, that need a buffer which is replaced"
)
def test_a_graph_built_before_with_a_moved_buffer():
    module = GraphsBuiltBefore()
    used = subject_of(module, vectors())
    probe = torch.randn(4, 8)
    used.ask = lambda task: [module.backbone["left"](probe), module.backbone["right"](probe)]
    check_promise(used, "two graphs", trainer=trainer())


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


class Distributed:
    """A process group of this process alone."""

    def __enter__(self):
        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        return init_device_mesh("cpu", (1,))

    def __exit__(self, *_):
        dist.destroy_process_group()


def _linear(weight):
    layer = nn.Linear(8, 8)
    layer.weight = weight
    return layer


def _sharded():
    with Distributed() as mesh:
        return _linear(nn.Parameter(distribute_tensor(torch.randn(8, 8), mesh, [Replicate()])))


def _quantized():
    layer = nn.Linear(8, 8)
    layer.register_buffer("codes", torch.quantize_per_tensor(torch.randn(8), 0.1, 0, torch.qint8))
    return layer


REFUSED = {
    "a complex weight": lambda: nn.Linear(8, 8, dtype=torch.complex64),
    "an integer weight": lambda: _linear(nn.Parameter(torch.ones(8, 8, dtype=torch.int8), requires_grad=False)),
    "a sparse weight": lambda: _linear(nn.Parameter(torch.eye(8).to_sparse())),
    "a lazy layer": lambda: nn.LazyLinear(8),
    "a lazy norm": lambda: nn.LazyBatchNorm1d(),
    "a tensor subclass": lambda: _linear(nn.Parameter(TwoTensor(torch.randn(8, 8), torch.randn(8, 8)))),
    "a DTensor": _sharded,
    "a quantized buffer": _quantized,
    "a weight on the meta device": lambda: nn.Linear(8, 8, device="meta"),
    "a norm on the meta device": lambda: nn.BatchNorm1d(8, device="meta"),
}


@pytest.mark.promise("Modules", status="refused")
@pytest.mark.filterwarnings("ignore:.*Lazy modules")
@pytest.mark.parametrize("what", REFUSED)
def test_refused_by_name(what):
    net = nn.Sequential(nn.Linear(8, 8), REFUSED[what](), nn.Linear(8, 8))
    packnet = PackNet(net)
    with pytest.raises(ValueError, match=r"\b1\b") as refused:
        packnet.begin_task("a")
    assert "refused" in str(refused.value)
    assert (packnet.tasks, packnet.open_task) == ([], None)


WITHOUT = {
    "no prunable weight": lambda: nn.Sequential(nn.Embedding(20, 8), nn.LayerNorm(8)),
    "no weight at all": lambda: nn.Sequential(nn.Tanh(), nn.Flatten()),
    "all weights parametrized": lambda: nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)),
    "a recurrent network alone": lambda: nn.LSTM(8, 8),
    "torch.jit.script": lambda: torch.jit.script(plain()),
    "torch.jit.trace": lambda: torch.jit.trace(plain(), torch.randn(2, 8)),
}


@pytest.mark.promise("Modules", status="refused")
@pytest.mark.parametrize("what", WITHOUT)
def test_nothing_to_divide(what):
    packnet = PackNet(WITHOUT[what]())
    with pytest.raises(CapacityError, match="no weights to divide"):
        packnet.begin_task("a")
    assert packnet.open_task is None


class Grows(UserModule):
    def __init__(self):
        super().__init__(nn.Sequential(nn.Embedding(VOCABULARY, 8), Mean(), nn.Linear(8, 8)), 8)


class Mean(nn.Module):
    def forward(self, x):
        return x.mean(1)


def _more_words(net):
    wider = nn.Embedding(VOCABULARY + 5, 8)
    wider.weight.data[:VOCABULARY] = net[0].weight.data
    net[0] = wider


CHANGES = {
    "an embedding with more rows": (_more_words, "0.weight"),
    "a layer more": (lambda net: net.append(nn.Linear(8, 8)), "3.weight"),
    "a layer less": (lambda net: net.pop(2), "2.weight"),
    "another layer": (lambda net: net.__setitem__(2, nn.Linear(8, 8)), "2.weight"),
    "a wider layer": (lambda net: net.__setitem__(2, nn.Linear(8, 16)), "2.weight"),
    "a parametrization more": (lambda net: nn.utils.parametrizations.weight_norm(net[2]), "2.weight"),
}


@pytest.mark.promise("Modules", status="noticed", label="after the first task")
@pytest.mark.parametrize("change", CHANGES)
def test_a_network_that_changes_after_the_first_task(change):
    module = Grows()
    used = subject_of(module, tokens(6, VOCABULARY))
    Promise(used, change).fit("a", trainer=trainer())
    act, name = CHANGES[change]
    act(module.backbone)
    with pytest.raises(RuntimeError, match=name):
        fit_phase(module, "b", data=used.data("b"))
    assert module.packnet.open_task is None


@pytest.mark.promise("Modules", label="prunable= leaves layers out: they stand still after the first task")
def test_layers_left_out():
    def prunable(name, layer):
        return name != "2"

    module = UserModule(plain(), 8, prunable=prunable)
    check_promise(subject_of(module, vectors()), "prunable", trainer=trainer())
    assert list(module.packnet.owners) == ["0.weight", "4.weight"]


@pytest.mark.promise("Modules", label="weights that are computed stand still, the others are divided")
def test_computed_weights_are_not_divided():
    make, inputs = NETWORKS["weight_norm (parametrization)"]
    module = UserModule(make(), 8)
    promise = Promise(subject_of(module, inputs), "weight_norm")
    promise.fit("a", trainer=trainer())
    computed = module.backbone[2].weight.clone()
    promise.fit("b", trainer=trainer())
    assert list(module.packnet.owners) == ["0.weight", "4.weight"]
    assert torch.equal(module.backbone[2].weight, computed)


@pytest.mark.promise("Modules", label="a private module that takes shape in the fit (lazy)")
def test_a_lazy_private_module():
    module = UserModule(plain(), 8)
    module.heads = nn.ModuleDict({task: nn.LazyLinear(3) for task in TASKS})
    check_promise(subject_of(module, vectors()), "lazy heads", trainer=trainer())


@pytest.mark.promise("Modules", label="select='best' with extra state in the module")
def test_the_best_epoch_of_a_module_with_extra_state():
    make, inputs = NETWORKS["extra state"]
    module = UserModule(make(), 8)
    used = subject_of(module, inputs)
    train = used.data
    used.data = lambda task: pl.LightningDataModule.from_datasets(
        train(task).dataset, train(task).dataset, batch_size=8
    )
    check_promise(used, "extra state", trainer=trainer(max_epochs=2), select="best")
