"""Nothing is forgotten whatever norm is in the network, nor by layers that keep statistics of their own."""

import warnings
from contextlib import contextmanager

import pytest
import timm.layers
import torch
import torch.nn.functional as F  # noqa: N812
import torchvision
from pytorch_lightning import LightningDataModule
from pytorch_lightning.plugins.layer_sync import TorchSyncBatchNorm
from pytorch_lightning.strategies import SingleDeviceStrategy
from torch import nn
from torch.ao.quantization import FakeQuantize, MovingAverageMinMaxObserver
from torch.utils.data import DataLoader, TensorDataset

from tests.support.promise.checker import Promise, check_promise
from tests.support.promise.own_modules import quiet, trainer
from tests.support.promise.user_modules import UserModule, asked_once, images, sequences, subject_of, vectors

pytestmark = pytest.mark.promise("Norms")

ON_VECTORS = {
    "BatchNorm1d": lambda: nn.BatchNorm1d(6),
    "LayerNorm": lambda: nn.LayerNorm(6),
    "LayerNorm without parameters": lambda: nn.LayerNorm(6, elementwise_affine=False),
    "RMSNorm": lambda: nn.RMSNorm(6),
    "timm LayerNormAct": lambda: timm.layers.LayerNormAct(6),
}
ON_SEQUENCES = {
    "BatchNorm1d on sequences": lambda: nn.BatchNorm1d(6),
    "InstanceNorm1d with running statistics": lambda: nn.InstanceNorm1d(6, affine=True, track_running_stats=True),
    "InstanceNorm1d": lambda: nn.InstanceNorm1d(6),
}
ON_IMAGES = {
    "BatchNorm2d": lambda: nn.BatchNorm2d(6),
    "BatchNorm2d, momentum None": lambda: nn.BatchNorm2d(6, momentum=None),
    "BatchNorm2d, affine False": lambda: nn.BatchNorm2d(6, affine=False),
    "BatchNorm2d, track_running_stats False": lambda: nn.BatchNorm2d(6, track_running_stats=False),
    "SyncBatchNorm in the module": lambda: nn.SyncBatchNorm(6),
    "InstanceNorm2d with running statistics": lambda: nn.InstanceNorm2d(6, affine=True, track_running_stats=True),
    "GroupNorm": lambda: nn.GroupNorm(2, 6),
    "LocalResponseNorm": lambda: nn.LocalResponseNorm(2),
    "timm BatchNormAct2d": lambda: timm.layers.BatchNormAct2d(6),
    "timm SyncBatchNormAct": lambda: timm.layers.SyncBatchNormAct(6),
    "timm GroupNormAct": lambda: timm.layers.GroupNormAct(6, num_groups=2),
    "timm LayerNormAct2d": lambda: timm.layers.LayerNormAct2d(6),
    "timm RmsNorm2d": lambda: timm.layers.RmsNorm2d(6),
    "timm EvoNorm2dB0": lambda: timm.layers.EvoNorm2dB0(6),
    "timm EvoNorm2dB1": lambda: timm.layers.EvoNorm2dB1(6),
    "timm EvoNorm2dS0": lambda: timm.layers.EvoNorm2dS0(6, groups=2),
    "timm FilterResponseNormTlu2d": lambda: timm.layers.FilterResponseNormTlu2d(6),
    "timm FrozenBatchNormAct2d": lambda: timm.layers.FrozenBatchNormAct2d(6),
    "torchvision FrozenBatchNorm2d": lambda: torchvision.ops.FrozenBatchNorm2d(6),
}
ON_VOLUMES = {
    "BatchNorm3d": lambda: nn.BatchNorm3d(6),
    "InstanceNorm3d with running statistics": lambda: nn.InstanceNorm3d(6, affine=True, track_running_stats=True),
}
MAIN = {"BatchNorm1d", "BatchNorm2d", "InstanceNorm2d with running statistics", "SyncBatchNorm in the module"}
MAIN |= {"LayerNorm", "GroupNorm", "torchvision FrozenBatchNorm2d"}
NORMS = {**ON_VECTORS, **ON_SEQUENCES, **ON_IMAGES, **ON_VOLUMES}
MOVING = [name for name in NORMS if ("Batch" in name or "running" in name or "EvoNorm2dB" in name)]
MOVING = [name for name in MOVING if "Frozen" not in name and "track_running_stats False" not in name]


def network(name):
    """A small network with the norm of that name in it, and what it takes."""
    norm = NORMS[name]()
    if name in ON_VECTORS:
        return nn.Sequential(nn.Linear(8, 6), norm, nn.Tanh(), nn.Linear(6, 8)), vectors()
    if name in ON_SEQUENCES:
        return nn.Sequential(nn.Conv1d(8, 6, 3), norm, nn.Tanh(), nn.Flatten(), nn.Linear(24, 8)), (
            lambda n: [torch.randn(n, 8, 6)]
        )
    if name in ON_IMAGES:
        return nn.Sequential(nn.Conv2d(1, 6, 3), norm, nn.Tanh(), nn.Flatten(), nn.Linear(216, 8)), images()
    return nn.Sequential(nn.Conv3d(1, 6, 3), norm, nn.Tanh(), nn.Flatten(), nn.Linear(48, 8)), (
        lambda n: [torch.randn(n, 1, 4, 4, 4)]
    )


@contextmanager
def noticed(module):
    """Collects, for each buffer of the shared module, the warnings that name it."""
    names = [name for name, _ in module.backbone.named_buffers()]
    found = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield found
    for name in names:
        about = [str(each.message) for each in caught if issubclass(each.category, UserWarning)]
        found[name] = [message for message in about if name in message.split()]


@pytest.mark.parametrize(
    ("name", "keeping"),
    [
        pytest.param(name, keeping, id=f"{name}{words}", marks=() if name in MAIN else pytest.mark.exhaustive)
        for keeping, words in (("shared", ""), ("per_task", ", one per task"))
        for name in NORMS
    ],
)
def test_norm(name, keeping):
    backbone, inputs = network(name)
    module = UserModule(backbone, 8, norm=keeping)
    before = {key: value.clone() for key, value in backbone.named_buffers()}
    with noticed(module) as warned:
        check_promise(subject_of(module, inputs), name, trainer=trainer())
    assert not any(warned.values()), "a norm that everybody uses needs no warning"
    moved = [key for key, value in backbone.named_buffers() if not torch.equal(value, before[key])]
    assert bool(moved) == (name in MOVING), "statistics that never move prove nothing"


class Synchronizes(SingleDeviceStrategy):
    """Turns batch-norm into SyncBatchNorm and back when DDPStrategy does, without a process group."""

    layer_sync = TorchSyncBatchNorm()

    def setup(self, trainer):
        self.model = self.layer_sync.apply(self.model)
        assert any(isinstance(layer, nn.SyncBatchNorm) for layer in self.model.modules())
        super().setup(trainer)

    def teardown(self):
        self.model = self.layer_sync.revert(self.model)
        super().teardown()


@pytest.mark.promise("Norms", label="Trainer(sync_batchnorm=True): every fit replaces the layers and gives others back")
@pytest.mark.parametrize("keeping", ["shared", "per_task"])
def test_layers_that_the_trainer_replaces_in_each_fit(keeping):
    backbone, inputs = network("BatchNorm2d")
    module = UserModule(backbone, 8, norm=keeping)
    with noticed(module) as warned:
        check_promise(
            subject_of(module, inputs), "sync_batchnorm", trainer=lambda *own: quiet(*own, strategy=Synchronizes("cpu"))
        )
    assert type(backbone[1]).__name__ == "_BatchNormXd"
    assert not any(warned.values())


class Centred(nn.Module):
    """Subtracts a running mean, which it moves in each forward pass of training, in one of many ways."""

    def __init__(self, way, persistent=True):
        super().__init__()
        self.way = way
        self.register_buffer("mean", torch.zeros(8), persistent=persistent)
        self.fc1, self.fc2 = nn.Linear(8, 8), nn.Linear(8, 8)

    def forward(self, x):
        if self.training:
            WAYS[self.way](self, 0.9 * self.mean + 0.1 * x.detach().mean(0))
        return self.fc2(torch.tanh(self.fc1(x - self.mean)))


def _in_place(layer, mean):
    layer.mean.copy_(mean)


def _replaced(layer, mean):
    layer.mean = mean


def _through_data(layer, mean):
    layer.mean.data.copy_(mean)


def _other_data(layer, mean):
    layer.mean.data = mean


def _registered_again(layer, mean):
    layer.register_buffer("mean", mean, persistent="mean" not in layer._non_persistent_buffers_set)


def _through_numpy(layer, mean):
    layer.mean.numpy()[:] = mean.numpy()


WAYS = {
    "in place": _in_place,
    "by replacing it": _replaced,
    "through .data": _through_data,
    "by other .data": _other_data,
    "by registering it again": _registered_again,
    "through numpy": _through_numpy,
}


@pytest.mark.promise("Norms", label="a layer of a user's that moves a buffer in forward (held, and named in a warning)")
@pytest.mark.parametrize(
    ("way", "persistent"),
    [pytest.param(way, True, id=way) for way in WAYS]
    + [pytest.param(way, False, id=f"{way}, persistent=False") for way in WAYS],
)
def test_a_layer_that_moves_a_buffer_of_its_own(way, persistent):
    module = UserModule(Centred(way, persistent), 8)
    promise = Promise(subject_of(module, vectors()), f"a buffer moved {way}")
    with noticed(module) as warned:
        promise.fit("a", trainer=trainer())
    assert module.backbone.mean.abs().sum() > 0
    assert warned == {"mean": []}, "the first task is free to move what it likes"
    kept = module.backbone.mean.clone()
    with noticed(module) as warned:
        promise.fit("b", trainer=trainer())
    assert len(warned["mean"]) == 1, "once for each buffer"
    assert torch.equal(module.backbone.mean, kept)
    promise.fit("c", trainer=trainer(), ratio=None)


class FunctionalNorm(nn.Module):
    """Uses the statistics of a norm layer, and never calls it."""

    def __init__(self):
        super().__init__()
        self.bn, self.fc1, self.fc2 = nn.BatchNorm1d(6), nn.Linear(8, 6), nn.Linear(6, 8)

    def forward(self, x):
        bn = self.bn
        x = F.batch_norm(
            self.fc1(x), bn.running_mean, bn.running_var, bn.weight, bn.bias, training=self.training, momentum=0.1
        )
        return self.fc2(torch.tanh(x))


class MovingNorm(nn.Module):
    """Batch-norm written out by hand, whose statistics have names of their own."""

    def __init__(self):
        super().__init__()
        self.gain, self.shift = nn.Parameter(torch.ones(6)), nn.Parameter(torch.zeros(6))
        self.register_buffer("average", torch.zeros(6))
        self.register_buffer("seen", torch.tensor(0))
        self.register_buffer("ready", torch.tensor(False))

    def forward(self, x):
        if self.training:
            self.average += 0.1 * (x.detach().mean(0) - self.average)
            self.seen += 1
            self.ready.fill_(True)
        return (x - self.average) * self.gain + self.shift * self.ready


@pytest.mark.promise("Norms", label="batch-norm through torch.nn.functional, with the statistics of a layer")
def test_a_norm_that_is_never_called():
    module = UserModule(FunctionalNorm(), 8)
    check_promise(subject_of(module, vectors()), "F.batch_norm", trainer=trainer())


@pytest.mark.promise("Norms", label="a norm written by hand, with a counter and a flag")
def test_a_norm_written_by_hand():
    module = UserModule(nn.Sequential(nn.Linear(8, 6), MovingNorm(), nn.Linear(6, 8)), 8)
    promise = Promise(subject_of(module, vectors()), "a norm written by hand")
    promise.fit("a", trainer=trainer())
    with noticed(module) as warned:
        promise.fit("b", trainer=trainer())
    # One warning for the layer.
    assert {name: len(messages) for name, messages in warned.items()} == {"1.average": 1, "1.seen": 0, "1.ready": 0}
    promise.fit("c", trainer=trainer(), ratio=None)


@pytest.mark.promise("Norms", label="a norm written by hand, one per task")
def test_a_norm_written_by_hand_one_per_task():
    module = UserModule(nn.Sequential(nn.Linear(8, 6), MovingNorm(), nn.Linear(6, 8)), 8, norm="per_task")
    with noticed(module) as warned:
        check_promise(subject_of(module, vectors()), "a norm written by hand, per task", trainer=trainer())
    assert not any(warned.values())
    averages = [copies["1.average"] for copies in module.packnet.state_dict()["copies"].values()]
    assert not torch.equal(averages[0], averages[1])


class Positions(nn.Module):
    """Adds a table of positions, which grows when a longer sequence comes; a plain number says how long it is."""

    def __init__(self, persistent):
        super().__init__()
        self.size = 2
        self.register_buffer("table", self.make(2), persistent=persistent)
        self.fc1, self.fc2 = nn.Linear(8, 8), nn.Linear(8, 8)

    @staticmethod
    def make(size):
        return torch.arange(float(size)).unsqueeze(1) / 10

    def forward(self, x):
        if x.shape[1] > self.size:
            self.size = x.shape[1]
            self.table = self.make(self.size)
        return self.fc2(torch.tanh(self.fc1(x + self.table[: x.shape[1]]))).mean(1)


def of_lengths(lengths):
    """Data whose sequences are longer from task to task, and longer still to validate with."""

    def data(task):
        train, val = (TensorDataset(torch.randn(24, n, 8), torch.randint(3, (24,))) for n in lengths[task])
        return LightningDataModule.from_datasets(train, val, batch_size=8)

    return data


@pytest.mark.promise("Norms", label="a cache that grows, beside it its size")
def test_a_cache_that_grows():
    module = UserModule(Positions(persistent=False), 8)
    used = subject_of(module, sequences(4))
    used.data = of_lengths({"a": (4, 5), "b": (6, 9), "c": (10, 11)})
    promise = Promise(used, "a cache that grows")
    promise.fit("a", trainer=trainer())
    with noticed(module) as warned:
        promise.fit("b", trainer=trainer(max_epochs=2))
    # No file has it and nothing of it is put back, so there is nothing to say.
    assert not warned["table"]
    promise.fit("c", trainer=trainer(), ratio=None)
    assert module.backbone.table.shape == (11, 1)


@pytest.mark.promise("Norms", status="refused", label="a cache that grows, and is saved with the weights")
def test_a_cache_that_grows_and_is_saved():
    """Put back it would be smaller than the layer believes, and left alone no checkpoint would fit."""
    module = UserModule(Positions(persistent=True), 8)
    used = subject_of(module, sequences(4))
    used.data = of_lengths({"a": (4, 4), "b": (6, 6)})
    promise = Promise(used, "a cache that grows")
    promise.fit("a", trainer=trainer())
    with pytest.raises(RuntimeError, match=r"(?s)table.*persistent=False"):
        promise.fit("b", trainer=trainer())
    assert all(parameter.requires_grad for parameter in module.parameters()), "the callback left a trace"
    module.backbone.table, module.backbone.size = Positions.make(4), 4
    module.packnet.abort_task()
    promise.check(after="b, which was refused")
    used.data = of_lengths({"c": (4, 4)})
    promise.fit("c", trainer=trainer())


@pytest.mark.promise("Norms", label="a cache that grows in Trainer.test, between the tasks")
def test_a_cache_that_grows_in_inference_mode():
    module = UserModule(Positions(persistent=False), 8)
    module.test_step = lambda batch, batch_idx: module.loss(batch)
    used = subject_of(module, sequences(4))
    promise = Promise(used, "a cache that grows in inference mode")
    for task, ratio in {"a": 0.5, "b": 0.5, "c": None}.items():
        promise.fit(task, trainer=trainer(), ratio=ratio)
        longer = TensorDataset(torch.randn(8, len(promise.finished) * 3 + 4, 8), torch.randint(3, (8,)))
        quiet().test(module, DataLoader(longer, batch_size=8), verbose=False)
        assert module.backbone.table.is_inference()
        promise.check(after=f"{task}, which was tested")


class Comes(nn.Module):
    """Has a state that comes and goes."""

    def __init__(self, goes):
        super().__init__()
        self.register_buffer("state", None, persistent=False)
        self.fc1, self.fc2, self.goes = nn.Linear(8, 8), nn.Linear(8, 8), goes

    def forward(self, x):
        state = getattr(self, "state", None)
        if self.training:
            if state is None:
                self.register_buffer("state", x.detach().mean(0), persistent=False)
            elif self.goes == "to None":
                self.state = None
            else:
                del self.state
        return self.fc2(torch.tanh(self.fc1(x)))


@pytest.mark.promise("Norms", label="a buffer that comes and goes")
@pytest.mark.parametrize("goes", ["to None", "deleted"])
def test_a_buffer_that_comes_and_goes(goes):
    module = UserModule(Comes(goes), 8)
    check_promise(subject_of(module, vectors()), "a buffer that comes and goes", trainer=trainer(limit_train_batches=2))
    check = UserModule(Comes(goes), 8)
    check_promise(subject_of(check, vectors()), "a buffer that comes and goes", trainer=trainer(limit_train_batches=3))


class Always(nn.Module):
    """Moves its buffer in eval mode too."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(8))

    def forward(self, x):
        self.mean += 0.1 * (x.detach().mean(0) - self.mean)
        return x - self.mean


class AlwaysMaxNorm(nn.Linear):
    """Scales its rows down to a length of 0.5 in each forward pass, as EEGNet does."""

    def forward(self, x):
        self.weight.data = torch.renorm(self.weight.data, p=2, dim=0, maxnorm=0.5)
        return super().forward(x)


WRITING = {
    "a buffer": Always,
    "a buffer, observed to quantize": lambda: FakeQuantize(observer=MovingAverageMinMaxObserver),
    "its weight (max-norm)": lambda: AlwaysMaxNorm(8, 8),
}


@pytest.mark.promise("Norms", label="a layer that writes in eval mode too, to")
@pytest.mark.parametrize("what", WRITING)
def test_a_layer_that_writes_in_eval_mode_too(what):
    module = UserModule(nn.Sequential(nn.Linear(8, 8), WRITING[what](), nn.Tanh(), nn.Linear(8, 8)), 8)
    used = asked_once(module, subject_of(module, vectors()))
    check_promise(used, f"a layer that writes to {what}", trainer=trainer())
