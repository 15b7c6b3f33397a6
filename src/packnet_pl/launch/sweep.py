"""Runs sweeps (``-m``): Hydra composes and launches the jobs, each a ``packnet-train`` of its own."""

import shlex
import sys
from argparse import Namespace
from functools import partial
from itertools import islice
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob
from hydra.errors import HydraException

from packnet_pl.configuration.compose import compose
from packnet_pl.configuration.overrides import key_of, quoted
from packnet_pl.counting import counted
from packnet_pl.errors import UsageError, one_line
from packnet_pl.launch.hydra_job import hand_to_hydra
from packnet_pl.launch.study import is_of_study, overrides_of_study, reason
from packnet_pl.launch.sweep_job import JobFailedError, run_job
from packnet_pl.ranks import Rank
from packnet_pl.sweep_jobs import jobs_since, size_of_jobs

__all__ = ["sweep"]

_OPTUNA_HAS_NONE = "No trials are completed yet."  # it looks for the best job, and all of them failed
_say = partial(print, file=sys.stderr)


def sweep(arguments: Namespace, rank: Rank) -> None:
    """Runs the jobs of a sweep and prints their outcome; exits with code 1 if one is not complete.

    Args:
        arguments: The command line.
        rank: This process.

    Raises:
        UsageError: If the sweep cannot begin.
    """
    if rank.meets_others:
        raise UsageError(
            f"-m starts the processes of each job itself, but {rank.started_by} started several of this one; "
            "start packnet-train -m once, without it"
        )
    folder = _fix_directory(arguments)
    begin = size_of_jobs(folder)
    complete = True
    try:
        hand_to_hydra(arguments, run_job)
    except JobFailedError as error:
        complete = False
        _say(f"packnet-train: {error}")
    except Exception as error:
        if not is_of_study(error):
            raise
        if str(error) != _OPTUNA_HAS_NONE:
            raise UsageError(f"the search's study: {reason(error)}") from error
        complete = False
        _say(f"packnet-train: {error}")
    finally:
        complete = _summarize(folder, begin) and complete
    if not complete:
        sys.exit(1)


def _fix_directory(arguments: Namespace) -> Path:
    """Writes the sweep's directory into the overrides, and returns it: all jobs share one time stamp in it.

    The first job is composed here, and by Hydra again: what is wrong with it is reported before anything is made.

    Raises:
        UsageError: If the first job cannot be composed, or a search cannot keep its study.
    """
    overrides, swept = _of_first_job(arguments.overrides)
    try:
        composed = compose(arguments, overrides)
    except UsageError:
        # Other overrides may be about a choice that the sweeper's own configuration makes.
        choices = [given for given in overrides if "." not in key_of(given) or key_of(given).startswith("hydra.")]
        params = compose(arguments, choices).hydra.sweeper.get("params") or {}
        known = {key_of(given) for given in overrides}
        more, also = _of_first_job([f"{key}={value}" for key, value in params.items() if key_of(key) not in known])
        if not also:
            raise
        composed = compose(arguments, [*more, *overrides])
        swept |= also
    folder = Path(composed.hydra.sweep.dir).absolute()
    fixed = {"hydra.sweep.dir": quoted(folder), **overrides_of_study(composed.hydra, folder)}
    arguments.overrides = [
        # Hydra composes the default choice as well, which need not have the keys of those that the jobs make.
        *(
            f"++{given}" if _is_below(given, swept) else given
            for given in arguments.overrides
            if key_of(given) not in fixed
        ),
        *(f"{key}={value}" for key, value in fixed.items()),
    ]
    return folder


def _of_first_job(overrides: list[str]) -> tuple[list[str], set[str]]:
    """Returns the overrides of a sweep's first job, as far as they can be listed here, and the keys swept over."""
    try:
        parsed = OverridesParser.create().parse_overrides(overrides)
    except HydraException as error:
        raise UsageError(one_line(error)) from error
    found, swept = [], set()
    for given, one in zip(overrides, parsed, strict=True):
        if not one.is_sweep_override():
            found.append(given)
            continue
        swept.add(key_of(given))
        if one.is_discrete_sweep() and not isinstance(one.value(), Glob):
            found += [f"{one.get_key_element()}={first}" for first in islice(one.sweep_string_iterator(), 1)]
    return found, swept


def _is_below(override: str, keys: set[str]) -> bool:
    return override[:1] not in "+~" and any(key_of(override).startswith(f"{key}.") for key in keys)


def _summarize(folder: Path, begin: int) -> bool:
    """Prints the outcome of the launched jobs; returns whether all of them are complete.

    Args:
        folder: The sweep's directory.
        begin: What ``size_of_jobs`` was before the first of them.
    """
    jobs = sorted(jobs_since(folder, begin), key=lambda job: job.number)
    failed = [job for job in jobs if job.state != "complete"]
    if failed:
        _say(f"{len(failed)} of {counted(len(jobs), 'job')} failed or were broken off:")
        for job in failed:
            _say(f"    {job.folder}")
        _say(f"The same command with hydra.sweep.dir={shlex.quote(str(folder))} keeps what is complete, and goes on.")
    elif not jobs and sys.exception() is None:
        _say(f"no job was launched, or none could write into {folder}")
    if len(failed) < len(jobs):
        print(f"sweep directory: {folder}; its table and figure: packnet-report {shlex.quote(str(folder))}")  # noqa: T201
    return bool(jobs) and not failed
