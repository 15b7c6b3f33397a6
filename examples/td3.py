"""TD3 with a body that actor and critics share, and heads for each task. It knows nothing of PackNet.

Source: Fujimoto, van Hoof & Meger, "Addressing Function Approximation Error in Actor-Critic Methods", ICML 2018.
Written for one action in [-2, 2]; ``continual_control.py`` learns two tasks with it.
"""

import copy
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from statistics import mean

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn
from torch.nn import functional
from torch.optim import Adam, Optimizer

Array = NDArray[np.float32]
Env = gym.Env[Array, Array]
Optimizers = Sequence[Optimizer]  # the critics', the actor's
Replay = list[Tensor]  # rows: observation, action (1), reward (1), next observation

RANDOM, TRAIN, CHECK_EVERY, VALIDATION = 1000, 10_000, 500, range(1000, 1010)  # steps; seeds of episodes
WIDTH, BATCH, RATE, DISCOUNT, TAU, NOISE = 64, 64, 1e-3, 0.99, 0.01, 0.2


class ObservationNorm(nn.Module):
    """Normalises observations by statistics that change in ``fit`` only, never in a forward pass."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.mean, self.std = nn.Buffer(torch.zeros(size)), nn.Buffer(torch.ones(size))

    def fit(self, observations: Tensor) -> None:
        """Takes the statistics of ``observations`` (n, size)."""
        self.mean.copy_(observations.mean(dim=0))
        self.std.copy_(observations.std(dim=0))

    def forward(self, observations: Tensor) -> Tensor:
        """Returns ``observations`` (n, size) with mean 0 and deviation 1."""
        return (observations - self.mean) / self.std


class Agent(nn.Module):
    """A body that all tasks share; for each task an actor and two critics."""

    def __init__(self, tasks: Iterable[str], observation_size: int) -> None:
        super().__init__()
        hidden = nn.Linear(observation_size, WIDTH), nn.ReLU(), nn.Linear(WIDTH, WIDTH), nn.ReLU()
        self.norm = ObservationNorm(observation_size)
        self.body = nn.Sequential(self.norm, *hidden)
        self.actors, self.critics = nn.ModuleDict(), nn.ModuleDict()
        for task in tasks:
            self.actors[task] = nn.Linear(WIDTH, 1)
            self.critics[task] = nn.Sequential(nn.Linear(WIDTH + 1, WIDTH), nn.ReLU(), nn.Linear(WIDTH, 2))

    def act(self, task: str, features: Tensor) -> Tensor:
        """Returns actions (n, 1) for ``features`` (n, WIDTH), which the body makes of observations."""
        return 2 * torch.tanh(self.actors[task](features))

    def values(self, task: str, features: Tensor, actions: Tensor) -> Tensor:
        """Returns what both critics expect of ``actions``, shape (n, 2)."""
        values: Tensor = self.critics[task](torch.cat([features, actions], dim=1))
        return values

    @torch.no_grad()
    def policy(self, task: str, observation: Array) -> Tensor:
        """Returns the action (1,) for one observation."""
        return self.act(task, self.body(torch.from_numpy(observation)[None]))[0]


def experience(env: Env, choose: Callable[[Array], Array], seed: int) -> Iterator[Tensor]:
    """Yields step after step in ``env``, episode after episode, as rows of a replay."""
    observation, _ = env.reset(seed=seed)
    while True:
        action = choose(observation)
        seen, reward, _, over, _ = env.step(action)
        yield torch.tensor(np.hstack([observation, action, float(reward) / 10, seen]), dtype=torch.float32)
        observation = env.reset()[0] if over else seen


def sample(replay: Replay, generator: Generator) -> Sequence[Tensor]:
    """Returns a batch of observations, actions, rewards and next observations."""
    chosen = torch.randint(len(replay), (BATCH,), generator=generator).tolist()
    rows = torch.stack([replay[number] for number in chosen])
    size = (rows.shape[1] - 2) // 2
    return torch.split(rows, [size, 1, 1, size], dim=1)


def returns(agent: Agent, task: str, env: Env, seeds: Iterable[int]) -> list[float]:
    """Returns the sum of rewards of one whole episode for each seed, without exploration."""
    totals = []
    for seed in seeds:
        (observation, _), total, over = env.reset(seed=seed), 0.0, False
        while not over:
            observation, reward, _, over, _ = env.step(agent.policy(task, observation).numpy())
            total += float(reward)
        totals.append(total)
    return totals


def optimizers_of(agent: Agent, task: str) -> Optimizers:
    """Returns the critics' and the actor's; both train the body."""
    critic, actor = ([*agent.body.parameters(), *heads[task].parameters()] for heads in (agent.critics, agent.actors))
    return Adam(critic, lr=RATE), Adam(actor, lr=RATE)


def step(optimizer: Optimizer, loss: Tensor) -> None:
    """Takes one step down ``loss``."""
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    optimizer.step()


def critic_loss(agent: Agent, target: Agent, task: str, batch: Sequence[Tensor], noise: Tensor) -> Tensor:
    """Returns how far the critics are from what the target networks expect."""
    before, actions, rewards, after = batch
    with torch.no_grad():
        features = target.body(after)
        smoothed = (target.act(task, features) + noise.clamp(-0.5, 0.5)).clamp(-2, 2)
        wanted = rewards + DISCOUNT * target.values(task, features, smoothed).amin(dim=1, keepdim=True)
    values = agent.values(task, agent.body(before), actions)
    return functional.mse_loss(values, wanted.expand_as(values))


def actor_loss(agent: Agent, task: str, observations: Tensor) -> Tensor:
    """Returns minus the value of the actor's own actions; the body learns as far as it leads to the actor."""
    features = agent.body(observations)
    return -agent.values(task, features.detach(), agent.act(task, features))[:, 0].mean()


@torch.no_grad()
def follow_(target: nn.Module, source: nn.Module) -> None:
    """Moves ``target`` a little towards ``source``. ``lerp_`` leaves equal numbers equal, so also frozen weights."""
    for slow, fast in zip(target.parameters(), source.parameters(), strict=True):
        slow.lerp_(fast, TAU)


def improve(
    agent: Agent, target: Agent, task: str, optimizers: Optimizers, replay: Replay, *, number: int, generator: Generator
) -> None:
    """Takes the ``number``-th step on a batch of the replay: the critics', and each second time the actor's."""
    critic, actor = optimizers
    batch, noise = sample(replay, generator), NOISE * torch.randn((BATCH, 1), generator=generator)
    step(critic, critic_loss(agent, target, task, batch, noise))
    if number % 2 == 0:
        step(actor, actor_loss(agent, task, batch[0]))
        follow_(target, agent)


def train(
    agent: Agent,
    task: str,
    optimizers: Optimizers,
    make_env: Callable[[], Env],
    *,
    seed: int,
    solved: float,
    budget: float,
) -> Replay:
    """Trains until ``task`` is solved or the budget spent; leaves the best agent that was seen.

    Args:
        agent: Learns in place.
        task: Which heads learn.
        optimizers: As :func:`optimizers_of` makes them.
        make_env: Makes the task's environment: one to learn in, one to validate in.
        seed: Of all that is random here.
        solved: Mean return of the validation episodes that is good enough.
        budget: Share of the usual steps, in (0, 1].

    Returns:
        All steps in the environment.
    """
    env, validation, generator = make_env(), make_env(), Generator().manual_seed(seed)
    env.action_space.seed(seed)
    replay = list(islice(experience(env, lambda _: env.action_space.sample(), seed), int(RANDOM * budget)))
    agent.norm.fit(torch.stack(replay)[:, : len(agent.norm.mean)])
    target = copy.deepcopy(agent).requires_grad_(False)  # made anew for each task, from the weights of now

    def explore(observation: Array) -> Array:
        noise = NOISE * torch.randn(1, generator=generator)
        action: Array = (agent.policy(task, observation) + noise).clamp(-2, 2).numpy()
        return action

    best, kept = float("-inf"), agent.state_dict()
    for number, row in enumerate(islice(experience(env, explore, seed), int(TRAIN * budget)), start=1):
        replay.append(row)
        improve(agent, target, task, optimizers, replay, number=number, generator=generator)
        if number % CHECK_EVERY == 0:
            score = mean(returns(agent, task, validation, VALIDATION))
            if score > best:
                best, kept = score, copy.deepcopy(agent.state_dict())
            if best >= solved:
                break
    agent.load_state_dict(kept)
    return replay
