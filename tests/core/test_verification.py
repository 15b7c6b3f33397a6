import copy
import pickle
from dataclasses import replace

import pytest
import torch
from torch import nn

from packnet_pl.core.fingerprints import fingerprints, task_fingerprints
from packnet_pl.core.state import State
from packnet_pl.core.verification import (
    VerifiedCopies,
    check_private,
    check_shared,
    private_fingerprints,
    private_tensors,
)
from tests.support.tiny import TinyNet

WEIGHT = torch.tensor([1.0, 2.0, 3.0, 4.0])
OWNER = torch.tensor([0, 1, 2, 2], dtype=torch.uint8)
BIAS, COUNT = torch.tensor([0.5]), torch.tensor(7)
OWN = {"a": {"bn.bias": torch.tensor([1.0])}, "b": {"bn.bias": torch.tensor([2.0])}}


def shared_state():
    """Task a owns one weight and all that is fixed, b two weights; each has its own copy of a norm's bias."""
    weights, owners = {"w": WEIGHT}, {"w": OWNER}
    first = task_fingerprints(weights, owners, 1, {"bias": BIAS, "count": COUNT, **OWN["a"]})
    second = task_fingerprints(weights, owners, 2, OWN["b"])
    return State(tasks=("a", "b"), owners=owners, fingerprints={"a": first, "b": second}, copies=copy.deepcopy(OWN))


def check(state=None, weight=WEIGHT, **fixed):
    check_shared(state or shared_state(), {"w": weight}, {"bias": BIAS, "count": COUNT, **fixed})


def test_nothing_is_said_where_nothing_has_changed():
    check()
    check(weight=WEIGHT.clone(), bias=BIAS.clone())


def test_free_weights_and_tensors_that_no_task_knows_may_be_anything():
    check(weight=torch.tensor([torch.nan, 2.0, 3.0, 4.0]), stranger=torch.ones(2))


@pytest.mark.parametrize(
    ("index", "task"), [(1, "a"), (2, "b"), (3, "b")], ids=["its own", "the second's", "the second's other"]
)
def test_a_changed_weight_is_named_with_the_task_that_owns_it(index, task):
    changed = WEIGHT.clone()
    changed[index] += 1
    with pytest.raises(RuntimeError, match=rf"^w is not what it was when task '{task}' was finished: it was changed"):
        check(weight=changed)


@pytest.mark.parametrize("fixed", [{"bias": -BIAS}, {"count": COUNT + 1}], ids=lambda fixed: next(iter(fixed)))
def test_another_changed_tensor_is_named_with_the_first_task(fixed):
    with pytest.raises(RuntimeError, match=rf"^{next(iter(fixed))} is not what it was when task 'a' was finished"):
        check(**fixed)


def test_a_tensor_that_is_gone_is_named():
    with pytest.raises(RuntimeError, match=r"^bias is not what it was when task 'a' was finished"):
        check_shared(shared_state(), {"w": WEIGHT}, {"count": COUNT})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"weight": WEIGHT.double()},
            "w is float64, and was float32 when task 'a'.*convert the network to float32 before",
        ),
        ({"bias": BIAS.bfloat16()}, "bias is bfloat16, and was float32 when task 'a'.*keep that precision"),
        ({"count": COUNT.int()}, "count is int32, and was int64 when task 'a'"),
    ],
    ids=["weight", "bias", "count"],
)
def test_another_type_is_named_with_both_types(given, message):
    with pytest.raises(RuntimeError, match=message):
        check(**given)


@pytest.mark.parametrize("task", ["a", "b"])
def test_what_a_task_has_for_itself_is_looked_at_in_its_copy(task):
    # What the module has now is that of the task that was trained last.
    check(**{"bn.bias": torch.tensor([99.0])})
    state = shared_state()
    state.copies[task]["bn.bias"] += 1
    with pytest.raises(RuntimeError, match=rf"bn\.bias is not what it was when task '{task}' was finished"):
        check(state)


def test_a_copy_that_was_verified_is_read_again_once_it_was_written_to():
    state, verified = shared_state(), VerifiedCopies()
    for _ in range(2):
        check_shared(state, {"w": WEIGHT}, {"bias": BIAS, "count": COUNT}, verified)
    assert verified.has("b", state.copies["b"])
    state.copies["b"]["bn.bias"] += 1
    assert not verified.has("b", state.copies["b"])
    with pytest.raises(RuntimeError, match=r"bn\.bias is not what it was when task 'b' was finished"):
        check_shared(state, {"w": WEIGHT}, {"bias": BIAS, "count": COUNT}, verified)


def test_a_copy_that_was_verified_is_read_again_once_another_stands_in_its_place():
    state, verified = shared_state(), VerifiedCopies()
    check_shared(state, {"w": WEIGHT}, {"bias": BIAS, "count": COUNT}, verified)
    state.copies["a"]["bn.bias"] = torch.tensor([7.0])
    with pytest.raises(RuntimeError, match=r"bn\.bias is not what it was when task 'a' was finished"):
        check_shared(state, {"w": WEIGHT}, {"bias": BIAS, "count": COUNT}, verified)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda both: pickle.loads(pickle.dumps(both))])
def test_copies_that_went_through_a_file_are_read_again(copied):
    state, verified = shared_state(), VerifiedCopies()
    check_shared(state, {"w": WEIGHT}, {"bias": BIAS, "count": COUNT}, verified)
    state, verified = copied((state, verified))
    state.copies["b"]["bn.bias"].data.add_(1)  # as in the file: no version tells
    with pytest.raises(RuntimeError, match=r"^bn\.bias is not what it was when task 'b' was finished"):
        check_shared(state, {"w": WEIGHT}, {"bias": BIAS, "count": COUNT}, verified)


def test_copies_of_inference_mode_are_read_each_time():
    with torch.inference_mode():
        copies = {"bn.bias": torch.tensor([1.0])}
    verified = VerifiedCopies()
    verified.add("a", copies)
    assert not verified.has("a", copies)


def test_an_open_task_is_not_looked_at():
    check(replace(shared_state(), open_task="c", phase="train"), weight=torch.tensor([9.0, 2.0, 3.0, 4.0]))


# Private modules.


class Root(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = TinyNet()
        self.heads = nn.ModuleDict({task: nn.Sequential(nn.Linear(6, 2), nn.BatchNorm1d(2)) for task in "ab"})
        self.heads["a"].register_buffer("scratch", torch.ones(2), persistent=False)


def private_state(root):
    private = {"a": ["heads.a"], "b": ["heads.b"], "c": ["heads.c"]}
    marks = {task: private_fingerprints(root, private[task], skip=()) for task in "ab"}
    return State(tasks=("a", "b", "c"), private=private, private_fingerprints=marks)


HEAD = ["0.weight", "0.bias", "1.weight", "1.bias", "1.running_mean", "1.running_var", "1.num_batches_tracked"]


def test_private_tensors_are_the_parameters_and_buffers_that_a_file_keeps():
    root = Root()
    found = private_tensors(root, ["heads.a"])
    assert list(found) == [f"heads.a.{name}" for name in HEAD]
    assert found["heads.a.0.weight"] is root.heads["a"][0].weight
    assert found["heads.a.1.running_mean"] is root.heads["a"][1].running_mean


def test_modules_that_are_not_there_have_no_tensors():
    assert private_tensors(Root(), ["heads.z", "other"]) == {}
    assert len(private_tensors(Root(), ["heads.z", "heads.b"])) == len(HEAD)


def test_names_of_private_tensors_are_those_of_the_plain_module_also_when_it_is_compiled():
    root = Root()
    root.heads["a"] = nn.ModuleDict({"_orig_mod": root.heads["a"]})  # as torch.compile wraps it
    assert list(private_tensors(root, ["heads.a"])) == [f"heads.a.{name}" for name in HEAD]


def test_fingerprints_of_private_modules_leave_out_what_the_shared_module_has():
    root = Root()
    root.heads["a"][0].weight = root.backbone.fc.weight
    found = private_fingerprints(root, ["heads.a"], skip=root.backbone.parameters())
    assert list(found) == [f"heads.a.{name}" for name in HEAD if name != "0.weight"]
    assert found["heads.a.0.bias"] == fingerprints({0: root.heads["a"][0].bias})[0]


def test_private_modules_that_are_what_they_were_pass():
    root = Root()
    state = private_state(root)
    check_private(state, root)
    with torch.no_grad():
        root.heads["a"].scratch.add_(1)
        root.backbone.fc.weight.add_(1)
    check_private(state, root)


@pytest.mark.parametrize("task", ["a", "b"])
@pytest.mark.parametrize("name", ["0.weight", "1.running_var", "1.num_batches_tracked"])
def test_a_changed_private_tensor_is_named_with_its_task(name, task):
    root = Root()
    state = private_state(root)
    with torch.no_grad():
        root.heads[task].state_dict()[name].add_(1)
    with pytest.raises(RuntimeError, match=rf"^heads\.{task}\.{name} is not what it was when task '{task}' was"):
        check_private(state, root)


def test_a_private_module_of_another_type_is_named_with_both_types():
    root = Root()
    state = private_state(root)
    root.heads["b"].double()
    with pytest.raises(RuntimeError, match=r"heads\.b\.0\.weight is float64, and was float32 when task 'b'"):
        check_private(state, root)


def test_a_root_without_the_head_of_a_task_passes_but_not_one_with_half_of_it():
    root = Root()
    state = private_state(root)
    del root.heads["a"]
    check_private(state, root)
    del root.heads["b"][1]
    with pytest.raises(RuntimeError, match=r"heads\.b\.1\.weight is not what it was when task 'b'"):
        check_private(state, root)


def test_a_task_whose_private_modules_nobody_looked_at_passes():
    root = Root()
    state = private_state(root)
    root.heads["c"] = nn.Linear(1, 1)
    check_private(state, root)
