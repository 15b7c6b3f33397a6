"""How a pruned policy is retrained: four ways, from the same trained agent, for the same number of optimizer steps.

    PYTHONPATH=examples python benchmarks/control_retraining.py [--seeds 10 11 12 13] [--ratios 0.5 0.75]

Prints the mean return of the validation episodes of examples/continual_control.py: its settings were chosen by them.
"""

import argparse
import copy
from collections.abc import Callable
from functools import partial
from statistics import mean

import continual_control as control
import td3
import torch
from rich.console import Console

from packnet_pl.core import PackNet

TASK = control.TASKS[0]
Way = Callable[[td3.Agent, PackNet, td3.Replay, float, int], None]


def with_teacher(agent: td3.Agent, packnet: PackNet, replay: td3.Replay, ratio: float, seed: int) -> None:
    """The actor learns to act as before, on observations from the replay."""
    teacher = copy.deepcopy(agent)
    packnet.prune(ratio)
    control.retrain(agent, teacher, TASK, packnet, replay, steps=control.RETRAIN)


def from_replay(
    agent: td3.Agent, packnet: PackNet, replay: td3.Replay, ratio: float, seed: int, *, dense: bool
) -> None:
    """TD3 goes on from the replay alone; its target networks begin as the agent before pruning (dense), or after."""
    target = copy.deepcopy(agent).requires_grad_(False)
    packnet.prune(ratio)
    if not dense:
        target = copy.deepcopy(agent).requires_grad_(False)
    optimizers = control.packed(packnet, td3.optimizers_of(agent, TASK))
    generator = torch.Generator().manual_seed(seed)
    for number in range(1, control.RETRAIN + 1):
        td3.improve(agent, target, TASK, optimizers, replay, number=number, generator=generator)


def in_environment(agent: td3.Agent, packnet: PackNet, replay: td3.Replay, ratio: float, seed: int) -> None:
    """TD3 begins again with the pruned network, in the environment, with an empty replay."""
    packnet.prune(ratio)
    optimizers = control.packed(packnet, td3.optimizers_of(agent, TASK))
    make_env, budget = partial(control.make_env, TASK), control.RETRAIN / td3.TRAIN
    td3.train(agent, TASK, optimizers, make_env, seed=seed, solved=control.SOLVED, budget=budget)


WAYS: dict[str, Way] = {
    "teacher": with_teacher,
    "replay, dense target": partial(from_replay, dense=True),
    "replay, pruned target": partial(from_replay, dense=False),
    "environment, empty replay": in_environment,
}


def score(agent: td3.Agent) -> float:
    """Returns the mean return of the validation episodes."""
    return mean(td3.returns(agent, TASK, control.make_env(TASK), td3.VALIDATION))


def main() -> None:
    """Prints a line for each seed, ratio and way."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=int, nargs="+", default=[10, 11, 12, 13])
    parser.add_argument("--ratios", type=float, nargs="+", default=[0.5, 0.75])
    given = parser.parse_args()
    torch.set_num_threads(1)
    console = Console()
    for seed in given.seeds:
        torch.manual_seed(seed)
        agent = td3.Agent(control.TASKS, observation_size=3)
        packnet = PackNet(agent.body, norm="per_task")
        packnet.begin_task(TASK)
        replay = control.train(agent, TASK, packnet, 10 * seed, budget=1)
        console.print(f"seed {seed}: trained in {len(replay)} steps, {score(agent):.1f}")
        for ratio in given.ratios:
            for name, way in WAYS.items():
                pruned, its_packnet = copy.deepcopy((agent, packnet))
                way(pruned, its_packnet, replay, ratio, seed)
                console.print(f"seed {seed}: {ratio} {name}: {score(pruned):.1f}")


if __name__ == "__main__":
    main()
