"""Choices, ratios and names: what is allowed, the one check of each, and near names. Torch-free, for fast errors."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Final, Literal, TypeVar, get_args

from packnet_pl.text import brief

__all__ = [
    "BALANCES",
    "GRANULARITIES",
    "HEAD_STARTS",
    "KEEPINGS",
    "PHASES",
    "PRUNABLES",
    "SCHEDULES",
    "SCOPES",
    "SCORES",
    "SHARDED",
    "WHICH_TASKS",
    "Balance",
    "Granularity",
    "HeadStart",
    "Keeping",
    "Phase",
    "Prunable",
    "Schedule",
    "Scope",
    "Score",
    "WhichTask",
    "check_choice",
    "check_growth",
    "check_ratio",
    "check_task_name",
    "nearest",
    "nearest_of_many",
]

Phase = Literal["train", "retrain"]
"""Of a task: before it is pruned, and after."""
Scope = Literal["layer", "global"]
"""Within what weights are counted and ranked."""
Granularity = Literal["weight", "filter"]
"""What is released as a whole: single weights, or output channels."""
Score = Literal["magnitude", "movement", "taylor", "random"]
"""By which of this package's scores weights are ranked."""
Schedule = Literal["oneshot", "gradual", "learned"]
"""When a task is pruned: once, after phase "train"; or on and on in phase "retrain"; or learned in phase "train"."""
Keeping = Literal["shared", "per_task"]
"""Whose norms, or biases, a task uses: the first task's, or its own."""
Prunable = Literal["weights", "paper", "all"]
"""What is divided among tasks: what multiplies activations; convolutions and linear layers only; or tables too."""
WhichTask = Literal["entropy", "features"]
"""By what the task of an image is found: the surest head, or statistics of features that each task leaves behind."""
Balance = Literal["none", "weights", "sampler"]
"""How classes with few images come to count as much as others: weights in the loss, or as many images of each."""
HeadStart = Literal["new", "pretrained"]
"""What a head begins as: random, or the classifier that the backbone's pretrained weights came with."""

SHARDED: Final = "fsdp"
"""Name, in configurations, of the strategy that shards a network; all others are Lightning's."""

PHASES: Final[tuple[Phase, ...]] = get_args(Phase)
SCOPES: Final[tuple[Scope, ...]] = get_args(Scope)
GRANULARITIES: Final[tuple[Granularity, ...]] = get_args(Granularity)
SCORES: Final[tuple[Score, ...]] = get_args(Score)
SCHEDULES: Final[tuple[Schedule, ...]] = get_args(Schedule)
KEEPINGS: Final[tuple[Keeping, ...]] = get_args(Keeping)
PRUNABLES: Final[tuple[Prunable, ...]] = get_args(Prunable)
BALANCES: Final[tuple[Balance, ...]] = get_args(Balance)
WHICH_TASKS: Final[tuple[WhichTask, ...]] = get_args(WhichTask)
HEAD_STARTS: Final[tuple[HeadStart, ...]] = get_args(HeadStart)

_LONGEST_TASK_NAME = 200
_MOST_GROWTH = 4
_Choice = TypeVar("_Choice", bound=str)


def check_choice(
    what: str, given: object, allowed: Sequence[_Choice], notes: Mapping[_Choice, str] | None = None
) -> _Choice:
    """Returns ``given``.

    Args:
        what: What is chosen, as the message calls it.
        given: The choice.
        allowed: All choices.
        notes: Choice -> what the message says beside it.

    Raises:
        ValueError: If it is not one of ``allowed``.
    """
    for choice in allowed:
        if given == choice:
            return choice
    listed = [f"{choice!r} ({notes[choice]})" if notes and choice in notes else repr(choice) for choice in allowed]
    raise ValueError(f"{what} is {given!r}; allowed are {', '.join(listed[:-1])} and {listed[-1]}")


def check_ratio(ratio: object, message: str | None = None) -> float:
    """Returns ``ratio`` as a float.

    Args:
        ratio: A prune ratio.
        message: What was given, and what is allowed, where it is called otherwise.

    Raises:
        ValueError: If it is not a number in [0, 1).
    """
    hint = ""
    if isinstance(ratio, Real) and not isinstance(ratio, bool):
        share = float(ratio)
        if 0 <= share < 1:
            return share
        hint = f" (for {share:g} percent write {share / 100:g})" if 1 < share < 100 else ""
    usual = f"prune ratio is {ratio!r}; allowed is a fraction in [0, 1), the share that is released"
    raise ValueError(f"{message or usual}{hint}")


def check_growth(factor: object) -> float:
    """Returns ``factor`` as a float: by how much a network grows.

    Raises:
        ValueError: If it is not a number above 1, up to 4.
    """
    if isinstance(factor, Real) and not isinstance(factor, bool) and 1 < float(factor) <= _MOST_GROWTH:
        return float(factor)
    raise ValueError(
        f"grow is {factor!r}; allowed is a number above 1, up to {_MOST_GROWTH}: 1.25 widens layers by a quarter"
    )


def check_task_name(task: object) -> str:
    """Returns ``task``: task names also name folders and files.

    Raises:
        ValueError: If it is not a printable, non-empty string without "/", other than "." and "..", or takes more than
            200 bytes, which is what the longest file names leave beside an ending.
    """
    if not isinstance(task, str) or not task.strip() or not task.isprintable() or "/" in task or task in (".", ".."):
        raise ValueError(
            f"task name is {brief(task)}; allowed is any printable name without '/', other than '.' and '..'"
        )
    if len(task.encode()) > _LONGEST_TASK_NAME:
        raise ValueError(
            f"task name is {brief(task)}, {len(task.encode())} bytes long; allowed are {_LONGEST_TASK_NAME}"
        )
    return task


def nearest(name: str, known: Iterable[str]) -> str:
    """Returns the end of a message about an unknown name: the known names closest to it, or all if none is close."""
    names = sorted(map(str, known))
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    if close:
        return f"did you mean {' or '.join(close)}?"
    return f"there are {', '.join(names)}" if len(names) <= 12 else "packnet-train --cfg job shows all there are"


def nearest_of_many(name: str, known: Sequence[str]) -> str:
    """Returns the middle of a message about an unknown name of hundreds: the closest, their number, six of them all."""
    close = difflib.get_close_matches(name, known, n=3, cutoff=0.5)
    meant = f"did you mean {' or '.join(map(repr, close))}? " if close else ""
    return f"{meant}There are {len(known)}, for example {', '.join(known[:: max(1, len(known) // 6)][:6])}"
