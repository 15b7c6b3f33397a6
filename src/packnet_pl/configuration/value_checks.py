"""Checks each value of a configuration by itself: whether it is one of its choices, or in its range."""

import math
from collections.abc import Callable, Sequence
from typing import Any

from omegaconf import DictConfig, OmegaConf

from packnet_pl.choices import (
    GRANULARITIES,
    KEEPINGS,
    PHASES,
    PRUNABLES,
    SCHEDULES,
    SCOPES,
    SCORES,
    WHICH_TASKS,
    check_choice,
    check_growth,
)
from packnet_pl.configuration.task_settings import LOSS_OPTIONS, check_loss_option, ratios_of
from packnet_pl.errors import UsageError

__all__ = ["aims_of", "check_values", "refuse_other"]

OBJECTIVES = ("val_accuracy", "free")
_CHOICES = {
    "prune.scope": SCOPES,
    "prune.granularity": GRANULARITIES,
    "prune.score": SCORES,
    "prune.schedule": SCHEDULES,
    "norm": KEEPINGS,
    "bias": KEEPINGS,
    "prunable": PRUNABLES,
    "which_task": WHICH_TASKS,
    "changed_data": ("refuse", "accept"),
}
_LEAST = {
    "optim.batch_size": 1,
    "optim.accumulate": 1,
    "checkpoint.every_n_steps": 1,
    "optim.num_workers": 0,
    "trainer.num_nodes": 1,
    "seed": 0,
    "debug.max_epochs": 1,
    "prune.trials": 1,
}
_FACTORS = tuple(f"optim.{factor}.{phase}" for factor in ("epochs", "lr") for phase in PHASES)
_ABOVE_ZERO = ("optim.later_lr", "optim.gradient_clip", *_FACTORS)
_LOSS = tuple(f"optim.{option}" for option in LOSS_OPTIONS)


def check_values(config: DictConfig) -> None:
    """Checks each value by itself; values that are missing are passed over.

    Args:
        config: Of the form of the schema.

    Raises:
        UsageError: If one is not allowed.
    """
    for key in (*_CHOICES, *_LEAST, *_ABOVE_ZERO, *_OTHERS, *_LOSS):
        *sections, name = key.split(".")
        node: Any = config
        for section in sections:
            # Asked for each section: OmegaConf's own select takes none that is missing as a whole.
            node = None if node is None or OmegaConf.is_missing(node, section) else node[section]
        if node is not None and not OmegaConf.is_missing(node, name):
            _check_value(key, node[name])


def _check_value(key: str, value: Any) -> None:
    if key in _CHOICES:
        refuse_other(key, value, _CHOICES[key])
    elif key in _OTHERS:
        _OTHERS[key](value)
    elif key in _LOSS:
        check_loss_option(key, value)
    elif value is None:
        return  # the schema says which of the numbers may be left out
    elif key in _LEAST and value < _LEAST[key]:
        raise UsageError(f"{key} is {value}; allowed is {_LEAST[key]} or more")
    elif key in _ABOVE_ZERO and not value > 0:
        raise UsageError(f"{key} is {value}; allowed is a number above 0")
    elif key in _FACTORS and value == math.inf:
        raise UsageError(f"{key} is {value}; allowed is a finite number above 0")


def _check_resume(given: Any) -> None:
    if not isinstance(given, bool) and given != "auto":
        raise UsageError(f"resume is {given!r}; allowed are true, false, and auto: go on if there is a run")


def _check_fraction(given: float) -> None:
    if not 0 < given <= 1:
        raise UsageError(f"debug.fraction is {given}; allowed is a number in (0, 1]")


def _check_grow(given: Any) -> None:
    if given is not None:
        try:
            check_growth(given)
        except ValueError as error:
            raise UsageError(str(error)) from error


def _check_grow_below(given: float) -> None:
    if not 0 <= given < 1:
        raise UsageError(f"grow_below is {given}; allowed is a fraction in [0, 1), the share of weights that is enough")


def _check_objective(given: Any) -> None:
    for aim in aims_of(given):
        if aim not in OBJECTIVES:
            raise UsageError(
                f"sweep.objective is {given}; allowed is one of {', '.join(OBJECTIVES)}, or a list of them"
            )


def _check_share(given: float) -> None:
    if not 0 <= given <= 1:
        raise UsageError(f"optim.distillation is {given}; allowed is a share of the loss in [0, 1], 0 for none")


def _check_temperature(given: float) -> None:
    if not 0 < given < math.inf:
        raise UsageError(f"optim.temperature is {given}; allowed is a finite number above 0")


def _check_tolerance(given: float) -> None:
    if not 0 <= given < 100:
        raise UsageError(f"prune.tolerance is {given}; allowed are points of accuracy in [0, 100)")


_OTHERS: dict[str, Callable[[Any], object]] = {
    "prune.tolerance": _check_tolerance,
    "optim.distillation": _check_share,
    "optim.temperature": _check_temperature,
    "prune.ratio": ratios_of,
    "resume": _check_resume,
    "debug.fraction": _check_fraction,
    "sweep.objective": _check_objective,
    "grow": _check_grow,
    "grow_below": _check_grow_below,
}


def aims_of(objective: Any) -> list[Any]:
    """Returns what a sweep is to find the most of: one aim, or several."""
    return list(objective) if OmegaConf.is_list(objective) and len(objective) else [objective]


def refuse_other(key: str, given: object, allowed: Sequence[str]) -> None:
    """Refuses a value that is none of the choices.

    Raises:
        UsageError: If it is none.
    """
    try:
        check_choice(key, given, allowed)
    except ValueError as error:
        raise UsageError(str(error)) from error
