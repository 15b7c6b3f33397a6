"""The module stays as it is beside PackNet: names, hooks, gradients, what nobody steps."""

from torch import nn

from packnet_pl.core import PackNet
from tests.support.packnet_states import fresh, frozen_parameters, wanted
from tests.support.tiny import TinyNet, count_hooks, pack, train


def test_the_module_is_the_same_beside_packnet_and_carries_no_hooks_between_tasks():
    net = TinyNet()
    keys, modules = list(net.state_dict()), [(name, id(module)) for name, module in net.named_modules()]
    ids = {name: id(parameter) for name, parameter in net.named_parameters()}
    attributes = {name: sorted(vars(module)) for name, module in net.named_modules()}

    def assert_same():
        assert list(net.state_dict()) == keys
        assert [(name, id(module)) for name, module in net.named_modules()] == modules
        assert {name: id(parameter) for name, parameter in net.named_parameters()} == ids
        assert {name: sorted(vars(module)) for name, module in net.named_modules()} == attributes

    packnet = PackNet(net)
    assert_same()
    for task in ("a", "b", "c"):
        packnet.begin_task(task)
        assert_same()
        train(packnet)
        packnet.prune(0.5)
        assert_same()
        train(packnet)
        packnet.finish_task()
        assert_same()
        assert count_hooks(net) == 0
    packnet.begin_task("d")
    assert count_hooks(net) == 1
    packnet.abort_task()
    assert count_hooks(net) == 0
    with packnet.subnetwork("a"):
        assert_same()
        assert count_hooks(net) == 0


def test_gradients_of_what_is_fixed_stop_and_are_given_back_as_they_were():
    packnet = fresh()
    net, other, never = packnet.module, nn.Linear(2, 2), nn.Linear(2, 2).requires_grad_(False)
    net.bn.bias.requires_grad_(False)
    before = wanted(net)
    packnet.requires_grad.turn_off(frozen_parameters(packnet))
    assert wanted(net) == before
    pack(packnet, "a")
    for _ in range(2):
        packnet.requires_grad.turn_off([*frozen_parameters(packnet), *other.parameters(), *never.parameters()])
        assert {name for name, needed in wanted(net).items() if needed} == {"conv.weight", "fc.weight"}
        assert not any(wanted(other).values())
    packnet.requires_grad.restore()
    assert wanted(net) == before
    assert all(wanted(other).values())
    assert not any(wanted(never).values())
    packnet.requires_grad.restore()
    assert wanted(net) == before
