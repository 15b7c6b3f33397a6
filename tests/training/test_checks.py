"""What a Trainer may be."""

from types import SimpleNamespace

import pytest
import torch
from pytorch_lightning.strategies import (
    DDPStrategy,
    DeepSpeedStrategy,
    FSDPStrategy,
    SingleDeviceStrategy,
)
from torch import nn

from packnet_pl import PackNet
from packnet_pl.training.rank_checks import check_same_on_all_ranks, failing_on_all_ranks
from packnet_pl.training.trainer_checks import (
    check_module,
    check_precision,
    check_strategy,
    expect_unused_parameters,
)
from tests.support.fits import OwnModule, SmallNet, tensors


@pytest.mark.parametrize("kind", [FSDPStrategy, DeepSpeedStrategy])
def test_strategies_that_cut_parameters_are_refused_by_name(kind):
    # Some cannot be made without a package or several devices.
    with pytest.raises(
        ValueError, match=rf"strategy {kind.__name__} cuts parameters.*allowed are one device,.*'ddp'.*ModelParallel"
    ):
        check_strategy(object.__new__(kind))


@pytest.mark.parametrize("strategy", [SingleDeviceStrategy("cpu"), DDPStrategy()], ids=["one device", "ddp"])
def test_strategies_that_keep_parameters_whole_are_allowed(strategy):
    check_strategy(strategy)


@pytest.mark.parametrize("start", ["spawn", "fork", "forkserver"])
def test_processes_that_would_train_copies_are_refused(start):
    with pytest.raises(ValueError, match=rf"starts its processes by '{start}': they train copies.*take strategy='ddp'"):
        check_strategy(DDPStrategy(start_method=start))


def test_the_packed_module_must_be_part_of_what_is_trained():
    module = OwnModule()
    check_module(module.packnet, module)
    check_module(PackNet(module), module)
    module.backbone = SmallNet()
    with pytest.raises(ValueError, match=r"the SmallNet that packnet was made for is no part of OwnModule"):
        check_module(module.packnet, module)


def with_tasks(finished=1, is_open=False, dtype=torch.float32):
    packnet = PackNet(SmallNet().to(dtype))
    for number in range(finished):
        packnet.begin_task(f"task{number}")
        packnet.prune(0.5)
        packnet.finish_task()
    if is_open:
        packnet.begin_task("open")
    return packnet


CONVERTING = {"16-true": torch.float16, "bf16-true": torch.bfloat16, "64-true": torch.float64}


@pytest.mark.parametrize("precision", CONVERTING)
@pytest.mark.parametrize(("finished", "is_open"), [(1, False), (0, True), (1, True)])
def test_a_precision_that_converts_the_weights_of_tasks_is_refused_with_both_types(precision, finished, is_open):
    packnet = with_tasks(finished, is_open)
    tasks = ["task0"] * finished + ["open"] * is_open
    before = tensors(packnet.module)
    with pytest.raises(ValueError, match=rf"precision='{precision}' would convert") as caught:
        check_precision(precision, packnet)
    message = str(caught.value)
    assert f"the weights of {tasks} from torch.float32 (conv.weight) to {CONVERTING[precision]}" in message
    assert all(torch.equal(value, before[name]) for name, value in tensors(packnet.module).items())


@pytest.mark.parametrize("precision", CONVERTING)
def test_the_first_task_may_be_trained_in_any_precision(precision):
    check_precision(precision, with_tasks(0))


@pytest.mark.parametrize("precision", CONVERTING)
def test_later_tasks_may_be_trained_in_the_precision_of_the_first(precision):
    check_precision(precision, with_tasks(1, dtype=CONVERTING[precision]))


@pytest.mark.parametrize("precision", ["32-true", "16-mixed", "bf16-mixed", "transformer-engine"])
def test_a_precision_that_converts_nothing_is_allowed(precision):
    check_precision(precision, with_tasks(1, is_open=True))


def test_one_layer_of_another_type_is_enough_to_be_refused():
    packnet = with_tasks(1, dtype=torch.bfloat16)
    packnet.module.fc.float()
    with pytest.raises(ValueError, match=r"from torch\.float32 \(fc\.weight\) to torch\.bfloat16"):
        check_precision("bf16-true", packnet)


class Ranks:
    """A strategy as this process sees it: what rank 0 sent, and whether the others agree."""

    def __init__(self, sent=None, others_agree=True):
        self.sent, self.others_agree = sent, others_agree
        self.asked = []

    def broadcast(self, mine):
        return self.sent if self.sent is not None else mine

    def reduce_boolean_decision(self, decision, all=True):
        self.asked.append(decision)
        assert all
        return decision and self.others_agree


def known(packnet):
    """What a process sends: all that it knows of tasks and owners."""
    sent = []

    class Listens(Ranks):
        def broadcast(self, mine):
            sent.append(mine)
            return mine

    check_same_on_all_ranks(SimpleNamespace(world_size=2, strategy=Listens()), packnet)
    return sent[0]


def test_one_process_asks_nobody():
    check_same_on_all_ranks(SimpleNamespace(world_size=1, strategy=None), with_tasks())


def one(name="a", phase=None, seed=0):
    """One finished task, or a pruned one of which nothing was released: the same owners, if the seed is the same."""
    torch.manual_seed(seed)
    packnet = PackNet(SmallNet())
    packnet.begin_task("first")
    packnet.prune(0.5)
    packnet.finish_task()
    packnet.begin_task(name)
    if phase != "train":
        packnet.prune(0.0)
    if phase is None:
        packnet.finish_task()
    return packnet


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ({}, {"name": "b"}),
        ({}, {"phase": "retrain"}),
        ({"phase": "train"}, {"phase": "retrain"}),
        ({}, {"seed": 1}),
    ],
    ids=["another name", "an open task", "another phase", "other owners"],
)
def test_processes_that_know_something_else_are_told_so(here, there):
    assert known(one(**here)) == known(one(**here))
    strategy = Ranks(known(one(**there)))
    with pytest.raises(ValueError, match="the processes do not agree on tasks and owners: load the same checkpoint"):
        check_same_on_all_ranks(SimpleNamespace(world_size=2, strategy=strategy), one(**here))
    assert strategy.asked == [False]


@pytest.mark.parametrize("phase", [None, "train", "retrain"])
def test_processes_that_know_the_same_agree(phase):
    strategy = Ranks(known(one(phase=phase)))
    check_same_on_all_ranks(SimpleNamespace(world_size=2, strategy=strategy), one(phase=phase))
    assert strategy.asked == [True]


def test_a_process_that_agrees_with_the_first_fails_too_if_another_one_does_not():
    with pytest.raises(ValueError, match="the processes do not agree"):
        check_same_on_all_ranks(SimpleNamespace(world_size=3, strategy=Ranks(others_agree=False)), with_tasks())


def raised(error, world_size=2, others_agree=True):
    """What a process raises that has this error, and what it told the others."""
    strategy = Ranks(others_agree=others_agree)
    try:
        with failing_on_all_ranks(SimpleNamespace(world_size=world_size, strategy=strategy)):
            if error is not None:
                raise error
    except (KeyError, RuntimeError) as found:
        return found, strategy.asked
    return None, strategy.asked


def test_the_error_of_a_process_is_its_own_and_the_others_end_with_it():
    error = KeyError("mine")
    assert raised(error) == (error, [False])
    assert raised(error, others_agree=False) == (error, [False])
    found, asked = raised(None, others_agree=False)
    assert "another process cannot begin the fit" in str(found)
    assert asked == [True]


def test_without_an_error_all_processes_go_on():
    assert raised(None) == (None, [True])


def test_one_process_raises_its_error_and_asks_nobody():
    error = KeyError("mine")
    assert raised(error, world_size=1) == (error, [])
    assert raised(None, world_size=1) == (None, [])


# What DDP must know.


def expected_of(strategy, module, used, world_size=2):
    expect_unused_parameters(SimpleNamespace(strategy=strategy, world_size=world_size), module, used)
    return getattr(strategy, "_ddp_kwargs", {})


def ids(*modules):
    return {id(parameter) for module in modules for parameter in module.parameters()}


def test_ddp_is_told_that_other_heads_take_no_part():
    module = OwnModule()
    assert expected_of(DDPStrategy(), module, ids(module.backbone, module.heads["a"])) == {
        "find_unused_parameters": True
    }


def test_ddp_is_told_nothing_if_everything_takes_part():
    module = OwnModule()
    assert expected_of(DDPStrategy(), module, ids(module)) == {}


def test_ddp_is_told_that_something_may_take_no_part_if_nobody_knows_yet():
    assert expected_of(DDPStrategy(), nn.Module(), None) == {"find_unused_parameters": True}
    assert expected_of(DDPStrategy(static_graph=True), nn.Module(), None) == {"static_graph": True}
    assert expected_of(DDPStrategy(), nn.Module(), None, world_size=1) == {"find_unused_parameters": True}


def test_heads_that_need_no_gradient_do_not_count():
    module = OwnModule()
    for task in "bcd":
        module.heads[task].requires_grad_(False)
    assert expected_of(DDPStrategy(), module, ids(module.backbone, module.heads["a"])) == {}


@pytest.mark.parametrize("given", [{"find_unused_parameters": False}, {"static_graph": True}])
def test_what_the_user_told_ddp_stands(given):
    assert expected_of(DDPStrategy(**given), OwnModule(), set()) == given


def test_other_strategies_are_told_nothing():
    assert expected_of(SingleDeviceStrategy("cpu"), nn.Linear(1, 1), set()) == {}
