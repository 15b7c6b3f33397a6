"""Nothing is forgotten, to the bit, in a training loop of one's own: without Lightning, around each optimizer step."""

import itertools
from dataclasses import dataclass, replace

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch import nn

import packnet_pl.core.subnetwork as subnetwork_module
import packnet_pl.core.task_freezer as task_freezer_module
from packnet_pl.core import PackNet, shared_module
from packnet_pl.core.freezing import Freezer
from packnet_pl.core.inventory import Inventory, take_inventory
from packnet_pl.core.module_modes import EvalMode
from tests.support.tiny import RunningCentre, TinyNet, bits, count_hooks, images

TASKS = ("a", "b", "c")
EPOCHS, STEPS = 2, 3

OPTIMIZERS = {
    "SGD": lambda parameters: torch.optim.SGD(parameters, lr=0.1),
    "SGD momentum nesterov decay": lambda parameters: torch.optim.SGD(
        parameters, lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-3
    ),
    "Adam": lambda parameters: torch.optim.Adam(parameters, lr=0.01),
    "AdamW decay": lambda parameters: torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.1),
    "Adam amsgrad": lambda parameters: torch.optim.Adam(parameters, lr=0.01, amsgrad=True),
    "RMSprop momentum decay": lambda parameters: torch.optim.RMSprop(
        parameters, lr=0.003, momentum=0.9, weight_decay=0.01
    ),
}


@dataclass(frozen=True)
class Setting:
    optimizer: str
    clip: bool = False
    accumulate: int = 1
    kept_alive: bool = False

    def __str__(self):
        return (
            f"{self.optimizer}, {'clipped' if self.clip else 'unclipped'}, {self.accumulate} backward passes a step, "
            f"{'one optimizer for all tasks' if self.kept_alive else 'a new optimizer for each task'}"
        )


SETTINGS = [Setting(*options) for options in itertools.product(OPTIMIZERS, (False, True), (1, 2), (False, True))]


def used_by(packnet, number):
    """Name -> bits of all that the task of this number computes with."""
    net, owners = packnet.module, packnet.owners
    return {
        name: bits(tensor[(owners[name] > 0) & (owners[name] <= number)] if name in owners else tensor)
        for name, tensor in net.state_dict().items()
    }


def logits(net, head, x):
    net.eval()
    with torch.no_grad():
        return head(net(x))


def check_nothing_is_forgotten(setting, net=None):  # noqa: C901
    """Trains three tasks one after the other; fails if a finished task is not, bit for bit, what it was."""
    net = net or TinyNet()
    packnet, probe = PackNet(net), images()
    heads = nn.ModuleDict({task: nn.Linear(6, 3) for task in TASKS})
    parameters = [*net.parameters(), *heads.parameters()]
    optimizer = OPTIMIZERS[setting.optimizer](parameters)
    finished = {}

    def fit(task, phase):
        pruned = {name: owner == 0 for name, owner in packnet.owners.items()}
        for _ in range(EPOCHS):
            net.train()
            for _ in range(STEPS):
                optimizer.zero_grad()
                for _ in range(setting.accumulate):
                    x, y = images() + TASKS.index(task), torch.randint(0, 3, (8,))
                    F.cross_entropy(heads[task](net(x)), y).backward()
                packnet.mask_gradients_()
                if setting.clip:
                    nn.utils.clip_grad_norm_([*net.parameters(), *heads[task].parameters()], 0.5)
                optimizer.step()
                packnet.restore_()
                for name, mask in pruned.items():
                    revived = bits(net.get_parameter(name))[mask].any()
                    assert not revived, f"pruned weights of {name} are not zero in {phase} of {task!r} under {setting}"

    for task in TASKS:
        if not setting.kept_alive:
            optimizer = OPTIMIZERS[setting.optimizer](parameters)
        packnet.begin_task(task)
        fit(task, "train")
        if task != TASKS[-1]:
            packnet.prune(0.5)
            fit(task, "retrain")
        # From the live network, as its user sees it: not through what is being tested.
        live = logits(net, heads[task], probe)
        number = len(packnet.tasks) + 1
        finished[task] = (live, used_by(packnet, number))
        packnet.finish_task()
        moved = any(bits(net.get_parameter(name))[owner == number].any() for name, owner in packnet.owners.items())
        assert moved, f"task {task!r} learned nothing under {setting}: the check would be empty"

        for number, (earlier, (expected, used)) in enumerate(finished.items(), start=1):
            where = f"task {earlier!r} changed after task {task!r} under {setting}"
            for name, now in used_by(packnet, number).items():
                assert torch.equal(now, used[name]), f"{where}: {name}"
            with packnet.subnetwork(earlier):
                found = logits(net, heads[earlier], probe)
            assert torch.equal(found, expected), f"{where}: its logits"
            assert torch.equal(found.view(torch.int32), expected.view(torch.int32)), f"{where}: the bits of its logits"
    packnet.verify()
    assert count_hooks(net) == 0


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_nothing_is_forgotten_to_the_bit(setting):
    check_nothing_is_forgotten(setting)


@pytest.mark.filterwarnings("ignore:.*is a buffer that its layer changes")
def test_statistics_that_a_layer_replaces_are_kept_too():
    net = TinyNet()
    net.fc = nn.Sequential(RunningCentre(16), net.fc)
    check_nothing_is_forgotten(Setting("SGD"), net)


# The checks below break the package on purpose: each must be noticed, or the check above proves nothing.
MOMENTUM = Setting("SGD momentum nesterov decay")


@pytest.mark.parametrize("setting", [MOMENTUM, Setting("AdamW decay"), Setting("Adam", kept_alive=True)], ids=str)
def test_the_check_notices_when_nothing_is_ever_restored(monkeypatch, setting):
    for restores in ("restore_", "restore_all_"):
        monkeypatch.setattr(Freezer, restores, lambda *_: None)
    with pytest.raises(AssertionError, match=rf"under {setting.optimizer}"):
        check_nothing_is_forgotten(setting)


def test_the_check_notices_when_steps_are_not_followed_by_restore(monkeypatch):
    monkeypatch.setattr(PackNet, "restore_", lambda *_: None)
    with pytest.raises(AssertionError, match="are not zero in retrain of 'a'"):
        check_nothing_is_forgotten(MOMENTUM)


class MaskOnly(Freezer):
    """Masks gradients as it should, but restores nothing except the zeros of free weights."""

    def __init__(self, find, owners=None, number=0, **given):
        super().__init__(find, owners, number, **given)
        weights = {name: slot.now.detach() for name, slot in find().items() if name in (owners or {})}
        may_move = {name: ((weight != 0) | (owners[name] == number)).byte() for name, weight in weights.items()}
        self.lenient = Freezer(lambda: {name: find()[name] for name in weights}, may_move, 1)

    def restore_(self, of=None):
        self.lenient.restore_(of)

    def restore_all_(self):
        self.lenient.restore_all_()


@pytest.mark.parametrize("setting", [MOMENTUM, Setting("AdamW decay"), Setting("Adam", kept_alive=True)], ids=str)
def test_the_check_notices_that_masked_gradients_alone_do_not_hold_a_weight(monkeypatch, setting):
    monkeypatch.setattr(task_freezer_module, "Freezer", MaskOnly)
    with pytest.raises(
        AssertionError, match=rf"task 'a' changed after task 'b' under {setting.optimizer}.*: conv\.weight"
    ):
        check_nothing_is_forgotten(setting)


def test_the_check_names_what_changed_when_biases_are_not_held(monkeypatch):
    monkeypatch.setattr(Inventory, "fixed", {})
    with pytest.raises(AssertionError, match=r"task 'a' changed after task 'b' under SGD, unclipped.*: conv\.bias"):
        check_nothing_is_forgotten(Setting("SGD"))


def test_the_check_notices_when_running_statistics_are_left_alone(monkeypatch):
    def without_buffers(*args, **kwargs):
        found = take_inventory(*args, **kwargs)
        frozen = {name: slot for name, slot in found.frozen.items() if isinstance(slot.now, nn.Parameter)}
        return replace(found, frozen=frozen)

    monkeypatch.setattr(EvalMode, "keep", lambda *_: None)
    monkeypatch.setattr(shared_module, "take_inventory", without_buffers)
    with pytest.raises(AssertionError, match=r"task 'a' changed after task 'b' under SGD, .*: bn\.running_mean"):
        check_nothing_is_forgotten(Setting("SGD"))


def test_the_check_notices_when_subnetwork_hides_nothing(monkeypatch):
    monkeypatch.setattr(subnetwork_module, "hide_", lambda *_: None)
    with pytest.raises(AssertionError, match=r"task 'a' changed after task 'b' under SGD, .*: its logits"):
        check_nothing_is_forgotten(Setting("SGD"))


def test_packnet_itself_notices_what_a_loop_without_it_has_changed():
    packnet = PackNet(TinyNet())
    packnet.begin_task("a")
    packnet.prune(0.5)
    packnet.finish_task()
    optimizer = OPTIMIZERS["SGD"](packnet.module.parameters())
    packnet.module(images()).square().sum().backward()
    optimizer.step()
    with pytest.raises(RuntimeError, match=r"conv\.weight is not what it was when task 'a' was finished"):
        packnet.begin_task("b")
