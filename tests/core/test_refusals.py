"""What is refused leaves the module and PackNet as they were."""

import copy
import math
import pickle

import pytest

from packnet_pl.core import CapacityError
from packnet_pl.core.state_dump import dump
from tests.support.packnet_states import fresh, full, with_finished_task, with_open_task, with_pruned_task
from tests.support.tiny import (
    equal,
    snapshot,
)

REFUSALS = {
    # what: (packnet, call, error, message)
    "prune without begin": (with_finished_task, lambda p: p.prune(0.5), RuntimeError, r"prune: no task is open.*cubs"),
    "finish without begin": (fresh, lambda p: p.finish_task(), RuntimeError, r"finish_task: no task is open"),
    "finish twice": (with_finished_task, lambda p: p.finish_task(), RuntimeError, r"finish_task: no task is open"),
    "abort without begin": (fresh, lambda p: p.abort_task(), RuntimeError, r"abort_task: no task is open"),
    "abort after finish": (with_finished_task, lambda p: p.abort_task(), RuntimeError, r"abort_task: no task is open"),
    "mask without begin": (fresh, lambda p: p.mask_gradients_(), RuntimeError, r"mask_gradients_: no task is open"),
    "restore without begin": (fresh, lambda p: p.restore_(), RuntimeError, r"restore_: no task is open"),
    "resume without begin": (fresh, lambda p: p.resume_task(), RuntimeError, r"resume_task: no task is open"),
    "withdraw without begin": (fresh, lambda p: p.withdraw_task(), RuntimeError, r"withdraw_task: no task is open"),
    "begin twice": (with_open_task, lambda p: p.begin_task("dogs"), RuntimeError, r"'dogs'.*'cars' is open"),
    "begin the open task": (with_open_task, lambda p: p.begin_task("cars"), RuntimeError, r"'cars' is open"),
    "repeated name": (with_finished_task, lambda p: p.begin_task("cubs"), ValueError, r"'cubs' is finished already"),
    "prune twice": (with_pruned_task, lambda p: p.prune(0.5), RuntimeError, r"'cars': it was pruned already"),
    "prune scope": (with_open_task, lambda p: p.prune(0.5, scope="net"), ValueError, r"prune scope is 'net'"),
    "no free weight": (full, lambda p: p.begin_task("dogs"), CapacityError, r"'dogs'.*132 .*'cubs' 66, .*grow=1.25"),
    "view unknown": (with_finished_task, lambda p: p.subnetwork("x").__enter__(), ValueError, r"'x' is unknown.*cubs"),
    "view open": (with_open_task, lambda p: p.subnetwork("cars").__enter__(), ValueError, r"'cars' is still open"),
    **{
        f"name {name!r}": (fresh, lambda p, name=name: p.begin_task(name), ValueError, f"task name is {message}; ")
        for name, message in {
            "": r"''",
            "  ": r"'  '",
            ".": r"'\.'",
            "..": r"'\.\.'",
            "a/b": r"'a/b'",
            "/": r"'/'",
            "\n": r"'\\n'",
            "a\tb": r"'a\\tb'",
            "a\x00": r"'a\\x00'",
            3: r"3",
            None: r"None",
            b"cubs": r"b'cubs'",
        }.items()
    },
    **{
        f"ratio {ratio!r}": (
            with_open_task,
            lambda p, ratio=ratio: p.prune(ratio),
            ValueError,
            rf"prune ratio is {ratio!r}; allowed",
        )
        for ratio in [1, 1.0, 75, -0.1, "0.5", True, None, math.nan, math.inf]
    },
}


@pytest.mark.parametrize("what", REFUSALS)
def test_misuse_is_refused_with_what_was_given_and_changes_nothing(what):
    make, call, error, message = REFUSALS[what]
    packnet = make()
    before, state = snapshot(packnet), packnet.state_dict()
    with pytest.raises(error, match=message):
        call(packnet)
    assert equal(snapshot(packnet), before)
    assert equal(packnet.state_dict(), state)


INSIDE = {
    "begin_task": lambda p: p.begin_task("dogs"),
    "prune": lambda p: p.prune(0.5),
    "finish_task": lambda p: p.finish_task(),
    "abort_task": lambda p: p.abort_task(),
    "mask_gradients_": lambda p: p.mask_gradients_(),
    "restore_": lambda p: p.restore_(),
    "freezer": lambda p: p.freezer.restore_all_(),
    "resume_task": lambda p: p.resume_task(),
    "withdraw_task": lambda p: p.withdraw_task(),
    "subnetwork": lambda p: p.subnetwork("cubs").__enter__(),
    "verify": lambda p: p.verify(),
    "state_dict": lambda p: p.state_dict(),
    "load_state_dict": lambda p: p.load_state_dict(dump(p.state)),
    "copying or pickling": copy.deepcopy,
    "copying or pickling PackNet": pickle.dumps,
}


@pytest.mark.parametrize("make", [with_finished_task, with_open_task])
@pytest.mark.parametrize("action", INSIDE)
def test_inside_subnetwork_the_life_of_tasks_stands_still(action, make):
    packnet = make()
    outside = snapshot(packnet)
    with packnet.subnetwork("cubs"):
        inside = snapshot(packnet)
        with pytest.raises(RuntimeError, match=r"inside subnetwork\('cubs'\): leave the with block"):
            INSIDE[action](packnet)
        assert equal(snapshot(packnet), inside)
    assert equal(snapshot(packnet), outside)
