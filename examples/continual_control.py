"""Continual control without Lightning: a network learns one task, then another, and forgets nothing of the first.

The tasks are a pendulum to swing up and balance, and the same pendulum with a sensor wired the wrong way round.
Actor and critics share a body (td3.py, which knows nothing of this), and PackNet divides the body among the tasks.
Fine-tuning of the same network stands beside it. docs/reinforcement.md says what is hard, and which lines solve it.

    pip install 'packnet-pl[examples]'
    python examples/continual_control.py [--quick] [--seeds 0 1 2] [--checkpoints FOLDER]
"""

import argparse
import copy
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from statistics import mean

import gymnasium as gym
import numpy as np
import td3
import torch
from torch import Tensor
from torch.nn import functional
from torch.optim import Adam

from packnet_pl.core import PackNet

TASKS = "straight", "crossed"
SOLVED, TEST = -180.0, range(2000, 2020)  # a mean return; seeds of episodes that choose nothing
PRUNE_RATIO, RETRAIN = 0.5, 2000  # share of a task's weights that it leaves to the next; optimizer steps

Measured = tuple[float, Tensor]  # mean return of the test episodes; actions on fixed observations, shape (256, 1)


def make_env(task: str) -> td3.Env:
    """Returns the pendulum; in task "crossed" the sine of its angle comes with the wrong sign."""
    env = gym.make("Pendulum-v1", disable_env_checker=True)
    signs = np.array([1, -1, 1] if task == "crossed" else [1, 1, 1], dtype=np.float32)
    return gym.wrappers.TransformObservation(env, lambda seen: seen * signs, env.observation_space)


def packed(packnet: PackNet, optimizers: td3.Optimizers) -> td3.Optimizers:
    """Makes each step of ``optimizers`` leave finished tasks as they are: the training loop need not know of it."""
    for optimizer in optimizers:
        optimizer.register_step_pre_hook(lambda *_: packnet.mask_gradients_())
        optimizer.register_step_post_hook(lambda *_: packnet.restore_())
    return optimizers


def train(agent: td3.Agent, task: str, packnet: PackNet | None, seed: int, budget: float) -> td3.Replay:
    """Trains ``task``, with or without PackNet, and returns its replay."""
    optimizers = td3.optimizers_of(agent, task)
    if packnet is not None:
        optimizers = packed(packnet, optimizers)
    return td3.train(agent, task, optimizers, partial(make_env, task), seed=seed, solved=SOLVED, budget=budget)


def retrain(agent: td3.Agent, teacher: td3.Agent, task: str, packnet: PackNet, replay: td3.Replay, steps: int) -> None:
    """Teaches the pruned agent to act as the teacher on what the replay holds, without a step in the environment."""
    [optimizer] = packed(packnet, [Adam([*agent.body.parameters(), *agent.actors[task].parameters()], lr=td3.RATE)])
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        observations, *_ = td3.sample(replay, generator)
        with torch.no_grad():
            wanted = teacher.act(task, teacher.body(observations))
        td3.step(optimizer, functional.mse_loss(agent.act(task, agent.body(observations)), wanted))


@torch.no_grad()
def measure(agent: td3.Agent, task: str) -> Measured:
    """Measures how well ``agent`` does, and how it acts."""
    angle, speed = torch.linspace(-9, 9, 256), torch.linspace(-8, 8, 256)
    observations = torch.stack([angle.cos(), angle.sin(), speed], dim=1)
    return mean(td3.returns(agent, task, make_env(task), TEST)), agent.act(task, agent.body(observations))


def learn(method: str, seed: int, budget: float, checkpoint: Path | None) -> dict[str, tuple[Measured, Measured]]:
    """Learns the tasks; returns for each what was measured when it was finished, and what at the end.

    Args:
        method: "packnet" or "finetune".
        seed: Of the first weights, the environments and all that is random.
        budget: Share of the usual steps, in (0, 1].
        checkpoint: Where PackNet goes on if it was killed; the file is written when a task was trained and finished.
    """
    torch.manual_seed(seed)
    agent = td3.Agent(TASKS, observation_size=3)
    packnet = PackNet(agent.body, norm="per_task") if method == "packnet" else None
    replay: td3.Replay = []
    finished: list[Measured] = []
    if packnet is not None and checkpoint is not None and checkpoint.exists():
        replay, finished = load(checkpoint, agent, packnet)
    for number, task in enumerate(TASKS[len(finished) :], start=len(finished)):
        task_seed = 10 * seed + number
        if packnet is None:
            train(agent, task, None, task_seed, budget)
            finished.append(measure(agent, task))
            continue
        if packnet.open_task is None:
            packnet.begin_task(task, private=[f"actors.{task}", f"critics.{task}"], root=agent)
            replay = train(agent, task, packnet, task_seed, budget)
            save(checkpoint, agent, packnet, replay, finished)
        teacher = copy.deepcopy(agent)
        packnet.prune(PRUNE_RATIO)
        retrain(agent, teacher, task, packnet, replay, steps=int(RETRAIN * budget))
        finished.append(measure(agent, task))  # the network as it is, before anything is masked
        packnet.finish_task(root=agent)
        save(checkpoint, agent, packnet, [], finished)
    learned = {}
    for task, then in zip(TASKS, finished, strict=True):
        with packnet.subnetwork(task) if packnet is not None else nullcontext():
            learned[task] = then, measure(agent, task)
    return learned


def save(path: Path | None, agent: td3.Agent, packnet: PackNet, replay: td3.Replay, finished: list[Measured]) -> None:
    """Replaces the checkpoint as a whole; optimizers and target networks are made anew in each phase."""
    if path is not None:
        state = {"agent": agent.state_dict(), "packnet": packnet.state_dict(root=agent)}
        torch.save({**state, "replay": replay, "finished": finished}, path.with_suffix(".part"))
        path.with_suffix(".part").replace(path)


def load(path: Path, agent: td3.Agent, packnet: PackNet) -> tuple[td3.Replay, list[Measured]]:
    """Loads a checkpoint; returns the open task's replay, and what was measured of finished ones."""
    state = torch.load(path, weights_only=True)
    agent.load_state_dict(state["agent"])
    packnet.load_state_dict(state["packnet"])
    packnet.verify(root=agent)
    return state["replay"], state["finished"]


def main() -> None:
    """Learns with both methods and every seed, and prints a table."""
    parser = argparse.ArgumentParser(description="Two control tasks in one network: PackNet beside fine-tuning.")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N")
    parser.add_argument(
        "--quick", action="store_true", help="a sixteenth of the steps: all of it runs, nothing is learned"
    )
    parser.add_argument("--checkpoints", type=Path, metavar="FOLDER", help="where PackNet goes on if it was killed")
    given = parser.parse_args()
    torch.set_num_threads(1)  # with networks this small, more are slower
    print("method    seed  task      finished    at end  forgotten  same actions")
    for method in ("packnet", "finetune"):
        learned = {}
        for seed in given.seeds:
            checkpoint = given.checkpoints / f"{seed}.pt" if given.checkpoints else None
            learned[seed] = learn(method, seed, 1 / 16 if given.quick else 1, checkpoint)
            for task, ((then, actions), (now, actions_now)) in learned[seed].items():
                same = "yes" if torch.equal(actions, actions_now) else "no"
                print(f"{method:9} {seed:4}  {task:9} {then:8.1f}  {now:8.1f}   {then - now:8.1f}  {same}", flush=True)
        for task in TASKS if len(given.seeds) > 1 else ():
            then, now = (mean(of_seed[task][when][0] for of_seed in learned.values()) for when in (0, 1))
            print(f"{method:9} mean  {task:9} {then:8.1f}  {now:8.1f}   {then - now:8.1f}")


if __name__ == "__main__":
    main()
