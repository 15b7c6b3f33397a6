"""Continual control: the example runs as its users start it, forgets nothing, and goes on where it was killed."""

import copy
import importlib
import re
import subprocess
import sys
from statistics import mean

import pytest
import torch
from torch import nn

from packnet_pl.core import PackNet
from tests.support import ROOT

ROW = re.compile(
    r"^(packnet|finetune) +0 +(straight|crossed) +(-[\d.]+) +(-[\d.]+) +(-?[\d.]+) +(yes|no)$", re.MULTILINE
)
BLOCKS = re.findall(
    r"```python\n(.*?)```", (ROOT / "docs/reinforcement.md").read_text(encoding="utf-8"), flags=re.DOTALL
)


@pytest.fixture
def td3(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "examples")
    module = importlib.import_module("td3")
    for name, value in {"RANDOM": 40, "TRAIN": 60, "CHECK_EVERY": 30, "VALIDATION": range(1)}.items():
        monkeypatch.setattr(module, name, value)
    return module


@pytest.fixture
def control(td3, monkeypatch):
    module = importlib.import_module("continual_control")
    monkeypatch.setattr(module, "RETRAIN", 30)
    monkeypatch.setattr(module, "TEST", range(1))
    return module


@pytest.mark.slow
def test_the_first_task_is_not_forgotten_and_fine_tuning_forgets_it():
    command = [sys.executable, "examples/continual_control.py", "--quick", "--seeds", "0"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    rows = {(method, task): row for method, task, *row in ROW.findall(done.stdout)}
    for task in ("straight", "crossed"):
        finished, at_the_end, forgotten, same = rows["packnet", task]
        assert finished == at_the_end
        assert (forgotten, same) == ("0.0", "yes")
    assert rows["finetune", "straight"][3] == "no"


class KilledError(Exception):
    pass


def killed(*_args, **_kwargs):
    raise KilledError


@pytest.mark.slow
@pytest.mark.parametrize(
    ("where", "calls"),
    [("retrain", 0), ("train", 1), ("retrain", 1)],
    ids=["first pruned", "second begun", "second pruned"],
)
def test_a_killed_run_ends_with_the_bits_of_one_that_was_not(control, monkeypatch, tmp_path, where, calls):
    whole = control.learn("packnet", 0, 1, tmp_path / "whole.pt")
    function, count = getattr(control, where), iter(range(9))
    monkeypatch.setattr(control, where, lambda *a, **k: (killed if next(count) == calls else function)(*a, **k))
    with pytest.raises(KilledError):
        control.learn("packnet", 0, 1, tmp_path / "killed.pt")
    monkeypatch.setattr(control, where, function)
    resumed = control.learn("packnet", 0, 1, tmp_path / "killed.pt")
    for task, measured in whole.items():
        for (mean_return, actions), (its_return, its_actions) in zip(measured, resumed[task], strict=True):
            assert mean_return == its_return
            assert torch.equal(actions, its_actions)
    states = [torch.load(tmp_path / f"{name}.pt", weights_only=True) for name in ("whole", "killed")]
    for name, tensor in states[0]["agent"].items():
        assert torch.equal(tensor, states[1]["agent"][name]), name
    assert {p.name for p in tmp_path.iterdir()} == {"whole.pt", "killed.pt"}


def test_returns_of_a_finished_task_are_those_of_the_live_network(control):
    learned = control.learn("packnet", 1, 1, None)
    for (finished, actions), (at_the_end, actions_at_the_end) in learned.values():
        assert finished == at_the_end
        assert torch.equal(actions, actions_at_the_end)


def test_target_networks_keep_frozen_weights_to_the_bit(td3):
    online = nn.Linear(50, 50)
    target = copy.deepcopy(online).requires_grad_(False)
    frozen = torch.rand(50, 50) < 0.5
    for _ in range(200):
        with torch.no_grad():
            online.weight[~frozen] += 0.01
        td3.follow_(target, online)
    assert torch.equal(target.weight[frozen], online.weight[frozen])
    assert not torch.equal(target.weight[~frozen], online.weight[~frozen])


@pytest.fixture
def open_task(td3):
    """What the recipe's lines take for granted: an agent with a finished task and an open one."""
    torch.manual_seed(0)
    agent = td3.Agent(["straight", "crossed"], 3)
    packnet = PackNet(agent.body, norm="per_task")
    packnet.begin_task("straight", private=["actors.straight", "critics.straight"], root=agent)
    packnet.prune(0.5)
    packnet.finish_task(root=agent)
    packnet.begin_task("crossed", private=["actors.crossed", "critics.crossed"], root=agent)
    critic_optimizer, actor_optimizer = td3.optimizers_of(agent, "crossed")
    return {
        "torch": torch, "nn": nn, "copy": copy, "mean": mean, "agent": agent, "packnet": packnet, "td3": td3,
        "critic_optimizer": critic_optimizer, "actor_optimizer": actor_optimizer,
    }  # fmt: skip


def block_with(text):
    [block] = [block for block in BLOCKS if text in block]
    return block


def test_the_recipe_makes_any_loop_leave_finished_tasks_alone(open_task):
    agent, before = open_task["agent"], {}
    observations = torch.randn(64, 3)
    with open_task["packnet"].subnetwork("straight"):
        before = agent.act("straight", agent.body(observations)).detach().clone()
    exec(block_with("register_step_pre_hook"), open_task)
    for _ in range(5):
        features = agent.body(observations)
        loss = agent.values("crossed", features, agent.act("crossed", features)).square().mean()
        for optimizer in (open_task["critic_optimizer"], open_task["actor_optimizer"]):
            optimizer.zero_grad()
        loss.backward()
        for optimizer in (open_task["critic_optimizer"], open_task["actor_optimizer"]):
            optimizer.step()
    exec(block_with("policy = copy.deepcopy(agent)"), open_task)
    policy = open_task["policy"]
    assert torch.equal(policy.act("straight", policy.body(observations)), before)


@pytest.mark.parametrize(("mean_return", "tasks"), [(-100.0, ["straight", "crossed"]), (-900.0, ["straight"])])
def test_the_recipe_finishes_a_task_by_its_returns(open_task, mean_return, tasks):
    exec(block_with("abort_task"), open_task | {"score": mean_return, "good_enough": -200.0})
    assert open_task["packnet"].tasks == tasks
    assert open_task["packnet"].open_task is None


def test_the_recipe_has_observation_statistics_for_each_task(open_task):
    exec(block_with("class RunningNorm"), open_task)
    norm = open_task["RunningNorm"](3)
    body = nn.Sequential(norm, nn.Linear(3, 8, bias=False))
    packnet = PackNet(body, norm="per_task")
    observations, seen = 5 + 2 * torch.randn(400, 3), {}
    for task, shift in {"one": 0, "two": 50}.items():
        packnet.begin_task(task)
        norm.count.fill_(1e-4)
        for batch in (observations + shift).split(100):
            norm.update(batch)
        packnet.prune(0.5)
        seen[task] = body(observations).detach().clone()
        packnet.finish_task()
    for task, before in seen.items():
        with packnet.subnetwork(task):
            assert torch.equal(body(observations), before)
    for task, shift in {"one": 0, "two": 50}.items():
        with packnet.subnetwork(task):
            torch.testing.assert_close(norm.mean, observations.mean(dim=0) + shift)
            torch.testing.assert_close(norm.var, observations.var(dim=0, correction=0), rtol=1e-3, atol=1e-3)
