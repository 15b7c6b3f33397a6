"""A network that grows: finished tasks are computed at their own width, to the bit; new channels are free."""

import copy

import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from packnet_pl.core import CapacityError, PackNet
from packnet_pl.core.widening import padded_owner, placed
from tests.support.packnet_states import OWN
from tests.support.tiny import equal, pack, same_bits, snapshot, tensors, train

OPTIMIZERS = {
    "SGD": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-3),
    "AdamW": lambda p: torch.optim.AdamW(p, lr=0.01),
}


class Net(nn.Module):
    """Images (N, 1, 6, 6) -> features (N, ``hidden``)."""

    def __init__(self, channels=4, hidden=6):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(1, channels, 3), nn.BatchNorm2d(channels)
        self.fc = nn.Linear(4 * channels, hidden)
        self.last = nn.Linear(hidden, hidden)

    def forward(self, x):
        x = F.avg_pool2d(F.leaky_relu(self.bn(self.conv(x))), 2)
        return self.last(F.leaky_relu(self.fc(x.flatten(1))))


EXAMPLE = torch.rand(3, 1, 6, 6, generator=torch.Generator().manual_seed(3))


def live(packnet):
    """What the live module computes in eval mode, without a subnetwork."""
    module = copy.deepcopy(packnet.module).eval()
    with torch.no_grad():
        return module(EXAMPLE)


def shown(packnet, task):
    with packnet.subnetwork(task), torch.no_grad():
        return packnet.module.eval()(EXAMPLE)


def finish(packnet, task, make=None, ratio=0.5):
    """Trains a task to its end; returns what the live network computes right before it is finished."""
    packnet.begin_task(task)
    train(packnet, optimizer=make and make(packnet.module.parameters()))
    if ratio is not None:
        packnet.prune(ratio)
        train(packnet, optimizer=make and make(packnet.module.parameters()))
    found = live(packnet)
    packnet.finish_task()
    return found


@pytest.mark.parametrize("make", OPTIMIZERS.values(), ids=OPTIMIZERS)
@pytest.mark.parametrize("keeping", [{}, OWN, {"norm": "per_task"}], ids=["shared", "per task", "norms per task"])
def test_finished_tasks_stay_the_same_bits_while_the_network_grows_twice(keeping, make):
    packnet, then = PackNet(Net(), **keeping), {}

    def check():
        for task, output in then.items():
            assert same_bits(shown(packnet, task), output), task
        packnet.verify()

    then["a"] = finish(packnet, "a", make)
    then["b"] = finish(packnet, "b", make, ratio=None)
    with pytest.raises(CapacityError):
        packnet.begin_task("c")
    packnet.grow(Net(5, 8), example=EXAMPLE)
    check()
    for task, ratio in (("c", 0.5), ("d", None)):
        then[task] = finish(packnet, task, make, ratio)
        check()
    packnet.grow(Net(7, 8), example=EXAMPLE)
    check()
    then["e"] = finish(packnet, "e", make)
    check()
    owned = packnet.summary().total.owned
    assert all(owned.values())
    again = PackNet.from_state(packnet.module, packnet.state_dict())
    for task, output in then.items():
        assert same_bits(shown(again, task), output), task


def test_a_wider_network_has_what_there_was_at_its_leading_indices_and_the_rest_is_free():
    packnet = PackNet(Net())
    pack(packnet, "a")
    before, owners, wide = tensors(packnet.module), packnet.owners, Net(6, 9)
    drawn = wide.fc.weight.detach().clone()
    assert packnet.grow(wide, example=EXAMPLE) is wide is packnet.module
    for name, owner in owners.items():
        box = tuple(map(slice, owner.shape))
        assert torch.equal(packnet.owners[name][box], owner)
        assert packnet.owners[name].count_nonzero() == owner.count_nonzero()
        assert torch.equal(tensors(wide)[name][box], before[name])
    new = wide.fc.weight.detach()
    assert torch.equal(new[6:], drawn[6:]), "the weights into new channels are those of the wider network"
    assert not new[:6, 16:].any(), "old channels do at first what they did"


def test_the_module_is_given_back_with_the_same_objects_and_bits_whatever_happens_inside():
    packnet = PackNet(Net(), norm="per_task")
    pack(packnet, "a")
    packnet.grow(Net(5, 7), example=EXAMPLE)
    packnet.begin_task("b")
    train(packnet)
    state, module = snapshot(packnet), packnet.module
    objects = [*map(id, module.parameters()), *map(id, module.buffers())]

    def fail():
        with packnet.subnetwork("a"):
            assert module.fc.weight.shape == (6, 16)
            module.train()(EXAMPLE)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert objects == [*map(id, module.parameters()), *map(id, module.buffers())]
    assert equal(snapshot(packnet), state)
    train(packnet)
    packnet.finish_task()


def test_a_task_that_grew_trains_the_new_channels():
    packnet = PackNet(Net(), norm="per_task")
    pack(packnet, "a")
    wide = packnet.grow(Net(6, 9), example=EXAMPLE)
    before = tensors(wide)
    packnet.begin_task("b")
    train(packnet)
    after = tensors(wide)
    for name, box in {
        "conv.weight": slice(4, 6),
        "fc.weight": (slice(None), slice(16, 24)),
        "bn.bias": slice(4, 6),
    }.items():
        assert (before[name][box] != after[name][box]).float().mean() > 0.9, name


@pytest.mark.parametrize(
    ("wide", "said"),
    [
        (lambda: Net(), "no tensor of the wider module is larger"),
        (lambda: Net(3, 9), r"conv.weight is \(4, 1, 3, 3\), and \(3, 1, 3, 3\) in the wider module"),
        (lambda: nn.Sequential(Net(5, 7)), "has other tensors than the module: "),
    ],
    ids=["as wide", "narrower", "another network"],
)
def test_another_network_is_refused_and_everything_is_as_it_was(wide, said):
    packnet = PackNet(Net())
    pack(packnet, "a")
    state, module = snapshot(packnet), packnet.module
    with pytest.raises(ValueError, match=said):
        packnet.grow(wide(), example=EXAMPLE)
    assert packnet.module is module
    assert equal(snapshot(packnet), state)
    pack(packnet, "b")


class Joined(nn.Module):
    """Concatenates the features of two layers."""

    def __init__(self, channels=4):
        super().__init__()
        self.left, self.right = nn.Linear(36, channels), nn.Linear(36, channels)
        self.last = nn.Linear(2 * channels, 6)

    def forward(self, x):
        return self.last(torch.cat([self.left(x.flatten(1)), self.right(x.flatten(1))], 1))


class Grouped(nn.Module):
    """A convolution in groups."""

    def __init__(self, channels=4):
        super().__init__()
        self.conv, self.grouped = nn.Conv2d(1, channels, 3), nn.Conv2d(channels, channels, 3, groups=2)

    def forward(self, x):
        return self.grouped(self.conv(x)).flatten(1)


class Normed(nn.Module):
    """A norm over all channels."""

    def __init__(self, channels=4):
        super().__init__()
        self.fc, self.norm = nn.Linear(36, channels), nn.LayerNorm(channels)

    def forward(self, x):
        return self.norm(self.fc(x.flatten(1)))


class Remembering(nn.Module):
    """Keeps its weight beside the parameter, as torch's recurrent layers do."""

    def __init__(self, channels=4):
        super().__init__()
        self.rnn = nn.GRU(36, channels, batch_first=True)

    def forward(self, x):
        return self.rnn(x.flatten(1).unsqueeze(1))[0][:, -1]


class Scaled(nn.Module):
    """Divides by its number of channels, which it takes from an attribute."""

    def __init__(self, channels=4):
        super().__init__()
        self.fc, self.channels = nn.Linear(36, channels), channels

    def forward(self, x):
        return self.fc(x.flatten(1)) / self.channels


@pytest.mark.parametrize("kind", [Joined, Grouped, Normed, Remembering, Scaled])
def test_a_network_that_cannot_grow_is_refused_and_goes_on_as_it_was(kind):
    packnet = PackNet(kind())
    packnet.begin_task("a")
    packnet.prune(0.5)
    packnet.finish_task()
    state, module = packnet.state_dict(), packnet.module
    with pytest.raises(ValueError, match="cannot grow"):
        packnet.grow(kind(6), example=EXAMPLE)
    assert packnet.module is module
    assert equal(packnet.state_dict(), state)
    packnet.begin_task("b")


@pytest.mark.parametrize(("tasks", "why"), [([], "no task is finished yet"), (["a"], "'b' is open")])
def test_a_network_grows_between_two_tasks_only(tasks, why):
    packnet = PackNet(Net())
    for task in tasks:
        pack(packnet, task)
        packnet.begin_task("b")
    with pytest.raises(RuntimeError, match=f"cannot grow: {why}"):
        packnet.grow(Net(5, 7), example=EXAMPLE)


def test_masks_and_growth_exclude_each_other_and_everything_is_as_it_was():
    masked, grown = PackNet(Net(), **OWN), PackNet(Net(), **OWN)
    then = [finish(packnet, "a") for packnet in (masked, grown)]
    masked.begin_task("b")
    masked.learn_mask()
    masked.mask.load_values_({name: -torch.ones_like(score) for name, score in masked.mask_scores.items()})
    masked.finish_task()
    with pytest.raises(ValueError, match=r"cannot grow: tasks \['b'\] have learned masks"):
        masked.grow(Net(5, 7), example=EXAMPLE)
    grown.grow(Net(5, 7), example=EXAMPLE)
    grown.begin_task("b")
    with pytest.raises(ValueError, match="cannot learn the mask of 'b': the network has grown"):
        grown.learn_mask()
    for packnet, before in zip((masked, grown), then, strict=True):
        assert same_bits(shown(packnet, "a"), before)
        packnet.verify()


def test_an_open_task_that_is_given_up_leaves_finished_ones_as_they_were():
    packnet = PackNet(Net(), **OWN)
    then = finish(packnet, "a")
    packnet.grow(Net(5, 7), example=EXAMPLE)
    packnet.begin_task("b")
    train(packnet)
    packnet.abort_task()
    assert same_bits(shown(packnet, "a"), then)
    packnet.verify()


def test_a_weight_of_a_narrower_task_that_was_changed_from_outside_is_named():
    packnet = PackNet(Net())
    pack(packnet, "a")
    wide = packnet.grow(Net(5, 7), example=EXAMPLE)
    at = tuple(packnet.owners["fc.weight"].nonzero()[0].tolist())
    with torch.no_grad():
        wide.fc.weight[at] += 1
    with pytest.raises(RuntimeError, match=r"fc.weight is not what it was when task 'a' was finished"):
        packnet.verify()


def test_without_growth_a_state_says_nothing_of_it():
    packnet = PackNet(Net())
    pack(packnet, "a")
    assert "shapes" not in packnet.state_dict()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s.update(shapes={"z": s["shapes"]["a"]}), "which are no finished tasks"),
        (lambda s: s["shapes"]["a"].pop("fc.weight"), "has shapes of other tensors"),
        (lambda s: s["shapes"]["a"].update({"fc.weight": [99, 16]}), "fc.weight is .99, 16. for task 'a', and"),
        (lambda s: s["shapes"]["a"].update({"fc.weight": [6]}), "fc.weight is"),
        (lambda s: s["shapes"]["a"].update({"fc.weight": [-1, 16]}), "allowed is a list of counts"),
        (lambda s: s["shapes"]["a"].update({"fc.weight": "6"}), "malformed"),
        (lambda s: s["shapes"]["a"].update({"fc.weight": [3, 16]}), "owns weights of fc.weight beyond its shape"),
        (lambda s: s["shapes"]["a"].update({"bn.bias": [3]}), "other norms or biases"),
        (lambda s: s.update(shapes=[]), "malformed"),
    ],
)
def test_shapes_that_contradict_the_rest_of_a_state_are_refused(change, said):
    packnet = PackNet(Net(), **OWN)
    pack(packnet, "a")
    packnet.grow(Net(5, 7), example=EXAMPLE)
    state = packnet.state_dict()
    change(state)
    with pytest.raises(ValueError, match=said):
        PackNet.from_state(packnet.module, state)


SIZES = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=4)


@given(SIZES)
def test_entries_are_placed_as_a_loop_over_all_indices_would(sizes):
    narrow = torch.randn([size for size, _ in sizes])
    wide = torch.randn([size + more for size, more in sizes])
    owner = torch.randint(0, 3, narrow.shape, dtype=torch.uint8)
    found, owners = placed(narrow, wide), padded_owner(owner, wide.shape)
    for index in torch.cartesian_prod(*map(torch.arange, wide.shape)).reshape(-1, len(sizes)).tolist():
        at = tuple(index)
        inside = all(i < size for i, size in zip(at, narrow.shape, strict=True))
        if inside:
            wanted, whose = narrow[at], int(owner[at])
        else:
            wanted, whose = (wide[at] if at[0] >= narrow.shape[0] else torch.tensor(0.0)), 0
        assert torch.equal(found[at], wanted)
        assert int(owners[at]) == whose
