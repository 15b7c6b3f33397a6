import copy
import warnings

import pytest
import torch
from torch import nn

from packnet_pl.core import PackNet
from packnet_pl.core.guard import Guard
from tests.support.tiny import RunningCentre, TinyNet, bits, count_hooks, equal, images, same_bits, tensors


def guard_of(net, *, own_norms=False, own_biases=False, prunable=None):
    return Guard(net, prunable, own_norms=own_norms, own_biases=own_biases)


def nothing(guard):
    """No entry of any weight may move."""
    return {name: torch.zeros_like(place.now, dtype=torch.bool) for name, place in guard.inventory().owned.items()}


def everything(guard):
    return {name: ~mask for name, mask in nothing(guard).items()}


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


def test_nothing_is_held_before_values_are_taken_and_after_they_are_dropped():
    guard = guard_of(TinyNet())
    seen = [guard.holding]
    guard.take(nothing(guard), first=True)
    seen.append(guard.holding)
    guard.drop()
    assert [*seen, guard.holding] == [False, True, False]


@pytest.mark.parametrize(
    ("own", "first", "expected"),
    [
        ({}, True, BIASES | NORM | {"cache"}),
        ({}, False, set()),
        ({"own_norms": True}, False, NORM),
        ({"own_biases": True}, False, BIASES),
        ({"own_norms": True, "own_biases": True}, False, NORM | BIASES),
        ({"own_norms": True, "own_biases": True}, True, NORM | BIASES | {"cache"}),
    ],
)
def test_what_is_not_divided_moves_with_the_first_task_and_later_only_if_each_task_has_its_own(own, first, expected):
    net = WithCache()
    guard, before = guard_of(net, **own), values(net)
    guard.take(nothing(guard), first=first)
    add_one(net)
    told(guard.restore_)
    assert moved(net, before) == expected


def test_entries_that_may_move_do():
    net = TinyNet()
    guard, before = guard_of(net), values(net)
    guard.take({**nothing(guard), **{"fc.weight": torch.eye(6, 16) == 1}}, first=False)
    add_one(net)
    for parameter in net.parameters():
        parameter.grad = torch.ones_like(parameter)
    guard.mask_gradients_()
    told(guard.restore_)
    assert moved(net, before) == {"fc.weight"}
    assert torch.equal(net.fc.weight.detach() - before["fc.weight"] > 0.5, torch.eye(6, 16) == 1)
    assert torch.equal(net.fc.weight.grad, torch.eye(6, 16))
    assert not any(net.get_parameter(name).grad.any() for name in before if name.endswith("bias"))


def test_only_what_was_stepped_is_written_to():
    net = TinyNet()
    guard = guard_of(net)
    guard.take(nothing(guard), first=False)
    versions = {name: parameter._version for name, parameter in net.named_parameters()}
    guard.restore_([net.fc.weight, net.bn.bias])
    written = {name for name, parameter in net.named_parameters() if parameter._version != versions[name]}
    assert written == {"fc.weight", "bn.bias"}


def test_a_weight_that_is_left_out_of_pruning_is_held_whole():
    net = TinyNet()
    guard, before = guard_of(net, prunable=lambda name, _: name != "conv"), values(net)
    assert list(guard.inventory().owned) == ["fc.weight"]
    guard.take(everything(guard), first=False)
    with torch.no_grad():
        net.conv.weight.add_(1)
        net.fc.weight.add_(1)
    guard.restore_()
    assert moved(net, before) == {"fc.weight"}


def replace_layers(net):
    """As a strategy or a tool may do it: equal layers, other objects."""
    for name in ("conv", "bn", "fc"):
        setattr(net, name, copy.deepcopy(getattr(net, name)))


def test_settling_finds_the_layers_that_took_the_place_of_others():
    net = TinyNet()
    guard, before = guard_of(net), values(net)
    guard.take(nothing(guard), first=False)
    replace_layers(net)
    add_one(net)
    assert told(guard.settle_) == ["bn.running_mean"]
    assert moved(net, before) == set()
    # From then on they are the ones that are held.
    add_one(net)
    told(guard.restore_)
    assert moved(net, before) == set()


class Centred(TinyNet):
    """With two buffers that a layer replaces in each forward pass in training mode."""

    def __init__(self):
        super().__init__()
        self.centre, self.other = RunningCentre(36), RunningCentre(36)

    def forward(self, x):
        flat = self.other(self.centre(x.flatten(1)))
        return super().forward(flat.reshape(x.shape))


@pytest.mark.parametrize("how", ["restore_", "settle_"])
def test_each_kind_of_layer_that_changes_buffers_is_named_once(how):
    net = Centred()
    guard = guard_of(net)
    guard.take(everything(guard), first=False)
    guard.keep_statistics(True)

    def step():
        net.train()
        net(images())
        getattr(guard, how)()

    assert told(step) == ["centre.mean"]
    assert told(step) == []
    guard.drop()
    guard.take(everything(guard), first=False)
    guard.keep_statistics(True)
    assert told(step) == ["centre.mean"]


def test_buffers_of_the_first_task_are_not_named():
    net = Centred()
    guard = guard_of(net)
    guard.take(everything(guard), first=True)
    net.train()
    net(images())
    assert told(guard.restore_) == []
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
    guard, before = guard_of(net), values(net)
    guard.take(everything(guard), first=False)
    guard.keep_statistics(True)
    net(net.norm(images()))
    with torch.no_grad():
        net.bn.bias.add_(1)
    assert moved(net, before) == {"norm.mean", "norm.var", "bn.bias"}
    # Layers that are kept in eval mode need not be looked at.
    versions = {name: tensor._version for name, tensor in [*net.named_parameters(), *net.bn.named_buffers()]}
    assert told(guard.restore_buffers_) == ["norm.mean"]
    assert moved(net, before) == {"bn.bias"}
    net.norm(images())
    assert told(guard.restore_buffers_) == []
    assert moved(net, before) == {"bn.bias"}
    assert versions == {name: tensor._version for name, tensor in [*net.named_parameters(), *net.bn.named_buffers()]}


def test_buffers_of_the_first_task_are_not_put_back():
    net = TinyNet()
    net.norm = FunctionalNorm()
    guard, before = guard_of(net), values(net)
    guard.take(everything(guard), first=True)
    net.norm(images())
    guard.restore_buffers_()
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
def test_statistics_stand_still_unless_they_are_those_of_norms_that_each_task_has_for_itself(own_norms):
    net = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), RunningSquare())
    guard = guard_of(net, own_norms=own_norms)

    def moves():
        before = values(net)
        net.train()
        net(images())
        return {name.split(".")[0] for name in moved(net, before)}

    for _ in range(2):
        guard.keep_statistics(True)
    assert count_hooks(net) == (1 if own_norms else 2)
    assert moves() == ({"1"} if own_norms else set())
    guard.keep_statistics(False)
    assert count_hooks(net) == 0
    assert moves() == {"1", "2"}
    guard.keep_statistics(True)
    guard.drop()
    assert count_hooks(net) == 0


def test_the_inventory_is_of_the_module_as_it_is_now():
    net = TinyNet()
    guard = guard_of(net)
    assert guard.inventory().owned["fc.weight"].now is net.fc.weight
    net.fc = nn.Linear(16, 2)
    net.more = nn.Linear(2, 2)
    assert list(guard.inventory().owned) == ["conv.weight", "fc.weight", "more.weight"]
    assert guard.inventory().owned["fc.weight"].now is net.fc.weight


def test_a_copy_of_a_guard_holds_the_copied_module():
    net = TinyNet()
    guard = guard_of(net)
    guard.take(nothing(guard), first=False)
    twin, other = copy.deepcopy((guard, net))
    before, first = values(other), tensors(net)
    with torch.no_grad():
        other.fc.weight.add_(1)
        other.fc.bias.add_(1)
    twin.restore_()
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
    guard, before = guard_of(net), values(net)
    guard.take(everything(guard), first=False)
    net.quantizers(images())
    with pytest.warns(
        UserWarning, match=r"^quantizers\.0\.scale \(like 47 more of FakeQuantizer\) is a buffer"
    ) as caught:
        guard.restore_()
    assert len(caught) == 1
    net.quantizers(images())
    assert told(guard.restore_) == []
    assert moved(net, before) == set()


def test_buffers_that_no_fingerprint_knows_are_put_back_between_tasks_too():
    net = TinyNet()
    net.register_buffer("average", torch.zeros(3), persistent=False)
    net.register_buffer("cache", torch.zeros(3), persistent=False)
    guard = guard_of(net)
    guard.rest()
    net.average, net.cache = net.average + 1, torch.ones(5)
    assert told(guard.put_back_buffers_) == ["average"]
    assert net.average.tolist() == [0, 0, 0]
    assert net.cache.tolist() == [1] * 5


def test_what_observers_write_between_tasks_is_put_back_and_other_changes_are_left():
    net = quantized()
    guard, before = guard_of(net), values(net)
    guard.put_back_buffers_()
    guard.rest()
    net.eval().quantizers(images())
    net.bn.running_mean.add_(1)
    net.quantizers[1].scale = torch.ones(2)
    assert told(guard.put_back_buffers_) == ["quantizers.0.scale"]
    assert moved(net, before) == {"bn.running_mean", "quantizers.1.scale"}
    guard.drop()
    net.quantizers[2:](images())
    assert told(guard.put_back_buffers_) == []
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
