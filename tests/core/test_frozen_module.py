"""What is frozen of a module while a task is open, and of its buffers between tasks."""

import copy
import pickle
import warnings

import pytest
import torch
from torch import nn

from packnet_pl.core import PackNet
from packnet_pl.core.state_dump import dump
from tests.support.tiny import RunningCentre, TinyNet, bits, count_hooks, equal, images, same_bits, tensors


def opened(net, mine, *, first=False, **given):
    """A PackNet with an open task, the first or second one, which owns ``mine`` of each weight; "a" the rest."""
    packnet = PackNet(net, **given)
    tasks = [] if first else ["a"]
    inventory = packnet.inventory()
    own = {name: slot.now.clone() for name, slot in inventory.per_task.items()}
    packnet.load_state_dict(
        packnet.state_dict()
        | {
            "tasks": tasks,
            "open_task": "open",
            "phase": "retrain" if first else "train",
            "owners": {
                name: mine(name, slot.now).to(torch.uint8) + len(tasks) for name, slot in inventory.owned.items()
            },
            "fingerprints": {task: {} for task in tasks},
            "copies": dict.fromkeys(tasks, own),
        }
    )
    packnet.resume_task()
    return packnet


def nothing(name, weight):
    """No entry of any weight may move."""
    return torch.zeros_like(weight, dtype=torch.bool)


def everything(name, weight):
    return torch.ones_like(weight, dtype=torch.bool)


def add_one(net):
    with torch.no_grad():
        for tensor in [*net.parameters(), *net.buffers()]:
            tensor.add_(1)


def moved(net, before):
    """The names of the parameters and buffers that are not what they were."""
    now = dict([*net.named_parameters(), *net.named_buffers()])
    return {name for name, value in before.items() if not same_bits(now[name], value)}


def values(net):
    return {name: tensor.detach().clone() for name, tensor in [*net.named_parameters(), *net.named_buffers()]}


def told(call):
    """The warnings that a call gives, each as the name that it begins with."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    assert all("is a buffer that its layer changes" in str(warning.message) for warning in caught)
    return [str(warning.message).split()[0] for warning in caught]


class WithCache(TinyNet):
    def __init__(self):
        super().__init__()
        self.register_buffer("cache", torch.ones(2), persistent=False)


WEIGHTS = {"conv.weight", "fc.weight"}
BIASES = {"conv.bias", "fc.bias"}
NORM = {"bn.weight", "bn.bias", "bn.running_mean", "bn.running_var", "bn.num_batches_tracked"}


def test_nothing_is_frozen_without_an_open_task():
    net = TinyNet()
    packnet, before = PackNet(net), values(net)
    add_one(net)
    packnet.freezer.restore_all_()
    assert moved(net, before) == set(before)
    packnet = opened(net, nothing)
    packnet.abort_task()
    before = values(net)
    add_one(net)
    packnet.freezer.restore_all_()
    assert moved(net, before) == set(before)


@pytest.mark.parametrize(
    ("own", "first", "expected"),
    [
        ({}, True, BIASES | NORM | {"cache"}),
        ({}, False, set()),
        ({"norm": "per_task"}, False, NORM),
        ({"bias": "per_task"}, False, BIASES),
        ({"norm": "per_task", "bias": "per_task"}, False, NORM | BIASES),
        ({"norm": "per_task", "bias": "per_task"}, True, NORM | BIASES | {"cache"}),
    ],
)
def test_what_is_not_divided_moves_with_the_first_task_and_later_only_if_each_task_has_its_own(own, first, expected):
    net = WithCache()
    packnet, before = opened(net, nothing, first=first, **own), values(net)
    add_one(net)
    told(packnet.restore_)
    assert moved(net, before) == expected


def test_entries_that_may_move_do():
    net = TinyNet()
    packnet = opened(net, lambda name, weight: torch.eye(6, 16) == 1 if name == "fc.weight" else nothing(name, weight))
    before = values(net)
    add_one(net)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    packnet.mask_gradients_()
    told(packnet.restore_)
    assert moved(net, before) == {"fc.weight"}
    assert torch.equal(net.fc.weight.detach() - before["fc.weight"] > 0.5, torch.eye(6, 16) == 1)
    assert torch.equal(net.fc.weight.grad, torch.eye(6, 16))
    assert not any(net.get_parameter(name).grad.any() for name in before if name.endswith("bias"))


def test_only_what_was_stepped_is_written_to():
    net = TinyNet()
    packnet = opened(net, nothing)
    versions = {name: parameter._version for name, parameter in net.named_parameters()}
    packnet.restore_([net.fc.weight, net.bn.bias])
    written = {name for name, parameter in net.named_parameters() if parameter._version != versions[name]}
    assert written == {"fc.weight", "bn.bias"}


def test_a_weight_that_is_left_out_of_pruning_is_frozen_whole():
    net = TinyNet()
    packnet, before = opened(net, everything, prunable=lambda name, *_: name == "fc.weight"), values(net)
    assert list(packnet.inventory().owned) == ["fc.weight"]
    with torch.no_grad():
        net.conv.weight.add_(1)
        net.fc.weight.add_(1)
    packnet.restore_()
    assert moved(net, before) == {"fc.weight"}


def replace_layers(net):
    """As a strategy or a tool may do it: equal layers, other objects."""
    for name in ("conv", "bn", "fc"):
        setattr(net, name, copy.deepcopy(getattr(net, name)))


def test_the_layers_that_took_the_place_of_others_are_found():
    net = TinyNet()
    packnet, before = opened(net, nothing), values(net)
    replace_layers(net)
    add_one(net)
    assert told(packnet.freezer.restore_all_) == ["bn.running_mean"]
    assert moved(net, before) == set()
    # From then on they are the ones that are frozen.
    add_one(net)
    told(packnet.restore_)
    assert moved(net, before) == set()


class Centred(TinyNet):
    """With two buffers that a layer replaces in each forward pass in training mode."""

    def __init__(self):
        super().__init__()
        self.centre, self.other = RunningCentre(36), RunningCentre(36)

    def forward(self, x):
        flat = self.other(self.centre(x.flatten(1)))
        return super().forward(flat.reshape(x.shape))


@pytest.mark.parametrize("how", ["restore_", "restore_all_"])
def test_each_kind_of_layer_that_changes_buffers_is_named_once(how):
    net = Centred()
    packnet = opened(net, everything)

    def step():
        net.train()
        net(images())
        getattr(packnet.freezer, how)()

    assert told(step) == ["centre.mean"]
    assert told(step) == []
    packnet.abort_task()
    packnet.begin_task("another")
    assert told(step) == ["centre.mean"]


def test_buffers_of_the_first_task_are_not_named():
    net = Centred()
    packnet = opened(net, everything, first=True)
    net.train()
    net(images())
    assert told(packnet.restore_) == []
    assert bits(net.centre.mean).any()


class FunctionalNorm(nn.Module):
    """Writes to its buffers, in any mode, where autograd does not count it."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("var", torch.ones(1), persistent=False)

    def forward(self, x):
        return nn.functional.batch_norm(x, self.mean, self.var, training=True)


def test_buffers_can_be_put_back_alone_also_where_nothing_tells_that_a_layer_wrote_to_them():
    net = TinyNet()
    net.norm = FunctionalNorm()
    packnet, before = opened(net, everything), values(net)
    net(net.norm(images()))
    with torch.no_grad():
        net.bn.bias.add_(1)
    assert moved(net, before) == {"norm.mean", "norm.var", "bn.bias"}
    # Layers that are kept in eval mode need not be looked at.
    versions = {name: tensor._version for name, tensor in [*net.named_parameters(), *net.bn.named_buffers()]}
    assert told(packnet.freezer.restore_buffers_) == ["norm.mean"]
    assert moved(net, before) == {"bn.bias"}
    net.norm(images())
    assert told(packnet.freezer.restore_buffers_) == []
    assert moved(net, before) == {"bn.bias"}
    assert versions == {name: tensor._version for name, tensor in [*net.named_parameters(), *net.bn.named_buffers()]}


def test_buffers_of_the_first_task_are_not_put_back():
    net = TinyNet()
    net.norm = FunctionalNorm()
    packnet, before = opened(net, everything, first=True), values(net)
    net.norm(images())
    packnet.freezer.restore_buffers_()
    assert moved(net, before) == {"norm.mean", "norm.var"}


class RunningSquare(nn.Module):
    """Keeps a statistic by torch's name for it, and is no norm."""

    def __init__(self):
        super().__init__()
        self.register_buffer("running_square", torch.zeros(()))

    def forward(self, x):
        if self.training:
            self.running_square.add_(x.square().mean())
        return x


@pytest.mark.parametrize("own_norms", [False, True])
def test_statistics_are_frozen_unless_they_are_those_of_norms_that_each_task_has_for_itself(own_norms):
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), RunningSquare())
    keeping = {"norm": "per_task"} if own_norms else {}

    def moves():
        before = values(net)
        net.train()
        net(images())
        return {name.split(".")[0] for name in moved(net, before)}

    packnet = opened(net, everything, **keeping)
    packnet.resume_task()
    assert count_hooks(net) == (1 if own_norms else 2)
    assert moves() == ({"1"} if own_norms else set())
    state = dump(packnet.state)
    packnet.abort_task()
    assert count_hooks(net) == 0
    assert moves() == {"1", "2"}
    packnet.load_state_dict(state)
    assert count_hooks(net) == (1 if own_norms else 2)
    packnet.load_state_dict(PackNet(net, **keeping).state_dict())
    assert count_hooks(net) == 0


def test_the_inventory_is_of_the_module_as_it_is_now():
    net = TinyNet()
    packnet = PackNet(net)
    assert packnet.inventory().owned["fc.weight"].now is net.fc.weight
    net.fc = nn.Linear(16, 2)
    net.more = nn.Linear(2, 2)
    assert list(packnet.inventory().owned) == ["conv.weight", "fc.weight", "more.weight"]
    assert packnet.inventory().owned["fc.weight"].now is net.fc.weight


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda pair: pickle.loads(pickle.dumps(pair))], ids=["copy", "pickle"]
)
def test_a_copy_freezes_the_copied_module(copied):
    net = TinyNet()
    twin, other = copied((opened(net, nothing), net))
    before, first = values(other), tensors(net)
    with torch.no_grad():
        other.fc.weight.add_(1)
        other.fc.bias.add_(1)
    twin.restore_()
    assert moved(other, before) == set()
    replace_layers(other)
    add_one(other)
    told(twin.freezer.restore_all_)
    assert moved(other, before) == set()
    assert equal(tensors(net), first)


class FakeQuantizer(nn.Module):
    """As torch's: it writes to its buffers in every mode, and has an observer inside that does as well."""

    def __init__(self, observer=None):
        super().__init__()
        self.register_buffer("scale", torch.ones(()))
        self.register_buffer("zero_point", torch.zeros(()))
        self.inner = observer

    def forward(self, x):
        with torch.no_grad():
            self.scale += 1
            self.zero_point.sub_(1)
        return self.inner(x) if self.inner is not None else x


class RangeObserver(FakeQuantizer):
    pass


def quantized():
    net = TinyNet()
    net.quantizers = nn.Sequential(*(FakeQuantizer(RangeObserver()) for _ in range(12)))  # 48 buffers
    return net


def test_many_buffers_of_many_layers_of_a_kind_are_one_warning():
    net = quantized()
    packnet, before = opened(net, everything), values(net)
    net.quantizers(images())
    with pytest.warns(
        UserWarning, match=r"^quantizers\.0\.scale \(like 47 more of FakeQuantizer\) is a buffer"
    ) as caught:
        packnet.restore_()
    assert len(caught) == 1
    net.quantizers(images())
    assert told(packnet.restore_) == []
    assert moved(net, before) == set()


def finished(net):
    packnet = PackNet(net)
    packnet.begin_task("a")
    packnet.prune(0.5)
    packnet.finish_task()
    return packnet


def test_buffers_that_no_fingerprint_knows_are_put_back_between_tasks_too():
    net = TinyNet()
    net.register_buffer("average", torch.zeros(3), persistent=False)
    net.register_buffer("cache", torch.zeros(3), persistent=False)
    packnet = finished(net)
    net.average, net.cache = net.average + 1, torch.ones(5)
    assert told(packnet.freezer.restore_all_) == ["average"]
    assert net.average.tolist() == [0, 0, 0]
    assert net.cache.tolist() == [1] * 5


def test_what_observers_write_between_tasks_is_put_back_and_other_changes_are_left():
    net = quantized()
    packnet, before = finished(net), values(net)
    net.eval().quantizers(images())
    net.bn.running_mean.add_(1)
    net.quantizers[1].scale = torch.ones(2)
    assert told(packnet.freezer.restore_all_) == ["quantizers.0.scale"]
    assert moved(net, before) == {"bn.running_mean", "quantizers.1.scale"}
    packnet.load_state_dict(PackNet(net).state_dict())
    net.quantizers[2:](images())
    assert told(packnet.freezer.restore_all_) == []
    assert "quantizers.2.scale" in moved(net, before)


def test_buffers_stay_while_a_task_is_finished_also_behind_one_that_was_withdrawn():
    net = TinyNet()
    net.register_buffer("average", torch.zeros(3), persistent=False)
    packnet = PackNet(net)
    packnet.begin_task("a")
    packnet.abort_task()
    net.average.fill_(1)  # nobody has finished with it yet
    assert told(lambda: packnet.begin_task("a")) == []
    assert net.average.tolist() == [1] * 3
    packnet.prune(0.5)
    packnet.finish_task()
    packnet.begin_task("b")
    packnet.withdraw_task()
    net.average.fill_(2)
    assert told(packnet.verify) == ["average"]
    assert net.average.tolist() == [1] * 3
