"""A learned subset of earlier tasks' weights: scores, straight-through gradients, the mask that is fixed at last."""

from copy import deepcopy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn, optim

from packnet_pl import LearnedMask, PackNet, PruneRule
from packnet_pl.core import movement
from packnet_pl.core.learned_mask import mask_of
from packnet_pl.core.packed_bits import pack_mask, packed_size, unpack_mask
from tests.support.promise.checker import bits

pytestmark = pytest.mark.filterwarnings("ignore:task 'b' and later ones cannot change")

RULE = LearnedMask(lr=0.2)
IMAGES = torch.randn(32, 6, generator=torch.Generator().manual_seed(0))


def network():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(6, 12), nn.Tanh(), nn.Linear(12, 4))


def labels(task):
    return torch.randint(0, 4, (32,), generator=torch.Generator().manual_seed(ord(task)))


def loss_of(net, task):
    return nn.functional.cross_entropy(net(IMAGES), labels(task))


def train(packnet, task, *, steps=8):
    optimizer = optim.SGD(packnet.module.parameters(), 0.1, momentum=0.9, weight_decay=1e-2)
    for _ in range(steps):
        optimizer.zero_grad()
        with packnet.masked():
            loss_of(packnet.module, task).backward()
        packnet.mask_gradients_()
        optimizer.step()
        packnet.restore_()


def fit(packnet, task, *, rule=RULE, ratio=0.5):
    """Takes a task from begin to finish; returns the logits of the live network before it is finished."""
    packnet.begin_task(task)
    if rule is not None:
        packnet.learn_mask(rule)
    train(packnet, task)
    packnet.prune(ratio)
    train(packnet, task)
    with packnet.masked():
        logits = packnet.module(IMAGES)
    packnet.finish_task()
    return logits.detach()


def three_tasks():
    packnet = PackNet(network())
    return packnet, {task: fit(packnet, task) for task in "abc"}


@given(st.lists(st.booleans(), max_size=70))
def test_a_mask_takes_a_bit_for_each_weight(values):
    mask = torch.tensor(values, dtype=torch.bool)
    packed = pack_mask(mask)
    assert packed.shape == (packed_size(mask.shape),) == ((len(values) + 7) // 8,)
    assert torch.equal(unpack_mask(packed, mask.shape), mask)


def test_a_mask_in_another_memory_layout_is_packed_in_row_major_order():
    mask = torch.rand(3, 5, 4, 2) < 0.5
    assert torch.equal(pack_mask(mask.contiguous(memory_format=torch.channels_last)), pack_mask(mask))


def test_forward_and_scores_are_those_of_a_plain_reference():
    """Frozen weights with scores below 0 count as zero; d loss / d score = d loss / d (weight used) * weight."""
    packnet = PackNet(network())
    fit(packnet, "a", rule=None)
    packnet.begin_task("b")
    packnet.learn_mask(LearnedMask(init=0.3, lr=1.0, optimizer=optim.SGD))
    net, rate = packnet.module, 0.1
    names = list(packnet.owners)
    frozen = {name: packnet.owners[name] == 1 for name in names}
    expected = {name: value.detach().clone() for name, value in net.state_dict().items()}
    scores = {name: torch.full_like(expected[name], 0.3) for name in names}
    optimizer = optim.SGD(net.parameters(), rate)
    for step in range(12):
        optimizer.zero_grad()
        with packnet.masked():
            loss = loss_of(net, "b")
            loss.backward()
        packnet.mask_gradients_()
        optimizer.step()
        packnet.restore_()

        used = {name: torch.where(frozen[name] & (scores[name] < 0), 0, expected[name]) for name in names}
        leaves = {name: value.clone().requires_grad_() for name, value in (expected | used).items()}
        again = nn.functional.cross_entropy(torch.func.functional_call(network(), leaves, (IMAGES,)), labels("b"))
        again.backward()
        assert torch.allclose(loss, again), f"loss in step {step}"
        for name in names:
            grad = leaves[name].grad
            scores[name] -= grad * expected[name] * frozen[name]
            expected[name] = torch.where(frozen[name], expected[name], expected[name] - rate * grad).detach()
            assert torch.allclose(packnet.mask_scores[name], scores[name], atol=1e-6), f"scores of {name}, step {step}"
    assert packnet.unused["b"], "no weight was switched off: the test would compare nothing"
    for name, entries in packnet.unused["b"].items():
        assert torch.equal(entries, frozen[name] & (packnet.mask_scores[name] < 0))


def test_nothing_is_forgotten_and_each_task_has_its_own_choice():
    packnet, logits = three_tasks()
    assert set(packnet.unused) == {"b", "c"}, "the first task has nothing to choose from"
    before = {name: bits(value) for name, value in packnet.module.state_dict().items()}
    for number, task in enumerate("abc", 1):
        with packnet.subnetwork(task):
            assert torch.equal(packnet.module(IMAGES), logits[task])
            for name, entries in packnet.unused.get(task, {}).items():
                weight = dict(packnet.module.named_parameters())[name]
                assert not weight[entries].any()
                assert (packnet.owners[name][entries] < number).all()
    assert all(torch.equal(bits(value), before[name]) for name, value in packnet.module.state_dict().items())
    packnet.verify()


def test_what_one_task_does_not_use_is_there_for_the_next():
    packnet, _ = three_tasks()
    packnet.begin_task("d")
    with packnet.masked():
        for name, entries in packnet.unused["c"].items():
            weight = dict(packnet.module.named_parameters())[name].detach()
            assert (weight[entries & (packnet.owners[name] < 3)] != 0).any()


def test_a_state_keeps_masks_as_bits_and_only_where_there_are_some():
    packnet, _ = three_tasks()
    state = packnet.state_dict()
    assert set(state["masks"]) == {"b", "c"}
    for mask in state["masks"].values():
        assert all(
            m.dtype == torch.uint8 and m.numel() == (packnet.owners[n].numel() + 7) // 8 for n, m in mask.items()
        )
    plain = PackNet(network())
    fit(plain, "a")
    fit(plain, "b", rule=None)
    assert not {"masks", "learning"} & set(plain.state_dict())


def test_a_state_is_read_again():
    packnet, logits = three_tasks()
    again = PackNet.from_state(deepcopy(packnet.module), packnet.state_dict())
    again.verify()
    with again.subnetwork("c"):
        assert torch.equal(again.module(IMAGES), logits["c"])


def test_learning_goes_on_from_a_state_as_without_a_break():
    """Scores and the state of their optimizer are in it."""
    packnet = PackNet(network())
    fit(packnet, "a", rule=None)
    packnet.begin_task("b")
    packnet.learn_mask(RULE)
    train(packnet, "b", steps=6)
    module, state = deepcopy(packnet.module), deepcopy(packnet.state_dict())
    train(packnet, "b", steps=6)

    again = PackNet.from_state(module, state)
    assert again.unused.keys() == {"b"}, "a state that is only looked at has its mask too"
    again.resume_task()
    again.learn_mask(RULE)
    train(again, "b", steps=6)
    assert all(torch.equal(score, packnet.mask_scores[name]) for name, score in again.mask_scores.items())
    for name, value in module.state_dict().items():
        assert torch.equal(value, packnet.module.state_dict()[name]), name


def test_gradients_that_overflowed_teach_nothing():
    packnet = PackNet(network())
    fit(packnet, "a", rule=None)
    packnet.begin_task("b")
    packnet.learn_mask(RULE)
    train(packnet, "b", steps=2)
    before = {name: score.clone() for name, score in packnet.mask_scores.items()}
    for parameter in packnet.module.parameters():
        parameter.grad = torch.full_like(parameter, torch.inf)
    packnet.mask_gradients_()
    packnet.restore_()
    assert all(torch.equal(score, before[name]) for name, score in packnet.mask_scores.items())


def test_a_mask_that_was_changed_from_outside_is_noticed():
    packnet, _ = three_tasks()
    name, mask = next(iter(packnet.state.masks["b"].items()))
    mask ^= 1
    with pytest.raises(RuntimeError, match=f"mask/{name} is not what it was when task 'b' was finished"):
        packnet.verify()


@pytest.mark.parametrize("end", ["abort_task", "withdraw_task"])
def test_a_task_that_is_given_up_leaves_no_mask(end):
    packnet = PackNet(network())
    fit(packnet, "a")
    packnet.begin_task("b")
    packnet.learn_mask(RULE)
    train(packnet, "b")
    getattr(packnet, end)()
    assert packnet.unused == {}
    assert packnet.mask_scores == {}
    packnet.begin_task("b")
    assert packnet.unused == {}


def test_a_task_that_is_aborted_after_pruning_leaves_no_mask():
    packnet = PackNet(network())
    fit(packnet, "a")
    packnet.begin_task("b")
    packnet.learn_mask(RULE)
    train(packnet, "b")
    packnet.prune(0.5)
    assert packnet.unused.keys() == {"b"}
    packnet.abort_task()
    assert packnet.unused == {}


def test_rows_that_are_divided_by_their_length_are_used_whole():
    torch.manual_seed(0)
    net = nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(6, 12)), nn.Tanh(), nn.Linear(12, 4))
    packnet = PackNet(net)
    fit(packnet, "a")
    packnet.begin_task("b")
    packnet.learn_mask(RULE)
    assert set(packnet.mask_scores) == {"2.weight"}


@pytest.mark.parametrize("action", ["mask_gradients_", "restore_", "state_dict", "finish_task", "verify"])
def test_refused_inside_masked(action):
    packnet = PackNet(network())
    fit(packnet, "a")
    packnet.begin_task("b")
    packnet.learn_mask(RULE)
    train(packnet, "b")
    with packnet.masked(), pytest.raises(RuntimeError, match=r"inside masked\(\)"):
        getattr(packnet, action)()


def test_masks_are_refused_after_pruning():
    packnet = PackNet(network())
    packnet.begin_task("a")
    packnet.prune(0.5)
    with pytest.raises(RuntimeError, match="pruned already, and it is fixed"):
        packnet.learn_mask()


@pytest.mark.parametrize("given", [0, -1, torch.inf, True, "1"])
def test_a_score_begins_above_zero_and_its_rate_is(given):
    with pytest.raises(ValueError, match="finite number above 0"):
        LearnedMask(init=given)
    with pytest.raises(ValueError, match="finite number above 0"):
        LearnedMask(lr=given)


@pytest.mark.parametrize(("given", "expected"), [(None, None), ("all", None), ("learned", LearnedMask()), (RULE, RULE)])
def test_what_a_mask_may_be(given, expected):
    found = mask_of(given)
    assert type(found) is type(expected)
    with pytest.raises(ValueError, match="allowed are 'all'"):
        mask_of("some")


def _of_another_size(state):
    state["masks"]["b"]["0.weight"] = state["masks"]["b"]["0.weight"][1:]


def _of_the_first_task(state):
    state["masks"]["a"] = state["masks"]["b"]


def _bools(state):
    state["masks"]["b"]["0.weight"] = state["masks"]["b"]["0.weight"].bool()


def _of_a_stranger(state):
    state["masks"]["b"]["1.weight"] = state["masks"]["b"]["0.weight"]


@pytest.mark.parametrize("damage", [_of_another_size, _of_the_first_task, _bools, _of_a_stranger])
def test_a_damaged_mask_is_refused(damage):
    packnet, _ = three_tasks()
    state = deepcopy(packnet.state_dict())
    damage(state)
    with pytest.raises(ValueError, match=r"PackNet state: .*mask"):
        PackNet.from_state(network(), state)


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_pruning_is_learned_as_a_plain_reference_does(scope):
    """Each step computes with what pruning would leave now, and all weights of the task get its gradients."""
    packnet = PackNet(network())
    fit(packnet, "a", rule=None)
    packnet.begin_task("b")
    packnet.learn_pruning(0.6, rule=PruneRule(scope=scope, schedule="learned"))
    net, rate, names = packnet.module, 0.1, list(packnet.owners)
    mine = {name: packnet.owners[name] == 2 for name in names}
    expected = {name: value.detach().clone() for name, value in net.state_dict().items()}
    optimizer, came_back, before = optim.SGD(net.parameters(), rate), False, None
    for step in range(15):
        optimizer.zero_grad()
        with packnet.masked():
            loss = loss_of(net, "b")
            loss.backward()
        packnet.mask_gradients_()
        optimizer.step()
        packnet.restore_()

        lowest = lowest_of(expected, mine, 0.6, scope)
        came_back = came_back or (before is not None and any((before[n] & ~lowest[n]).any() for n in names))
        before = lowest
        leaves = {name: value.clone() for name, value in expected.items()}
        for name in names:
            leaves[name][lowest[name]] = 0
        leaves = {name: value.requires_grad_() for name, value in leaves.items()}
        again = nn.functional.cross_entropy(torch.func.functional_call(network(), leaves, (IMAGES,)), labels("b"))
        again.backward()
        assert torch.allclose(loss, again), f"loss in step {step}"
        for name in names:
            expected[name] = torch.where(mine[name], expected[name] - rate * leaves[name].grad, expected[name]).detach()
            assert torch.allclose(net.get_parameter(name), expected[name], atol=1e-6), f"{name} in step {step}"
    assert came_back, "no weight that did not count came to count again: the test would compare little"
    with packnet.masked():
        logits = net(IMAGES)
    packnet.prune(0.6, rule=PruneRule(scope=scope, schedule="learned"))
    assert torch.equal(net(IMAGES), logits), "what is pruned for good is what did not count"
    assert sum(int((owner == 0).sum()) for owner in packnet.owners.values()) == sum(
        int(entries.sum()) for entries in lowest_of(expected, mine, 0.6, scope).values()
    )


def lowest_of(weights, mine, ratio, scope):
    """Name -> the smallest of the task's own weights, counted in plain Python."""
    found = {name: torch.zeros(mask.numel(), dtype=torch.bool) for name, mask in mine.items()}
    groups = [[name] for name in mine] if scope == "layer" else [list(mine)]
    for group in groups:
        ranked = sorted(
            (abs(float(weights[name].flatten()[index])), place, index)
            for place, name in enumerate(group)
            for index in mine[name].flatten().nonzero().flatten().tolist()
        )
        for _, place, index in ranked[: round(ratio * len(ranked))]:
            found[group[place]][index] = True
    return {name: mask.reshape(mine[name].shape) for name, mask in found.items()}


def test_pruning_that_is_learned_takes_no_score_of_gradients():
    with pytest.raises(ValueError, match="has seen no gradient"):
        PruneRule(score=movement, schedule="learned")


def test_pruning_is_learned_before_it_is_done():
    packnet = PackNet(network())
    packnet.begin_task("a")
    packnet.prune(0.5)
    with pytest.raises(RuntimeError, match="pruned already"):
        packnet.learn_pruning(0.5)
