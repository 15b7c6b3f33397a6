"""Finds out once which process of a run this one is, and who started it, for this package and for Lightning."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import PurePath
from typing import Literal

from packnet_pl.errors import UsageError

__all__ = ["Rank", "rank_of", "this_process", "without_ranks"]

# The process whose launcher of Lightning's starts others leaves them its id: they are its children.
_LAUNCHER = "PACKNET_PL_LAUNCHER"
_TORCH = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
_NODE = ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT")
_NUMBERS = ("RANK", "LOCAL_RANK", "NODE_RANK", "GROUP_RANK")
_OTHER_LAUNCHERS = {"mpirun": "OMPI_COMM_WORLD_SIZE", "mpiexec": "PMI_SIZE", "jsrun": "JSM_NAMESPACE_SIZE"}
# What SLURM calls the job of somebody who types.
_SHELLS = {"interactive", "bash", "sh", "zsh", "fish", "dash", "ksh", "csh", "tcsh"}


@dataclass(frozen=True)
class Rank:
    """This process among those of its run.

    Attributes:
        started_by: "user" for a process that was started alone (Lightning may start others for it), "lightning" for
            one of those others, "torchrun", "srun", "hand" for one of several that were given torch's variables (RANK
            and the rest), or "node" for one that was started by hand on each machine.
        number: Its index among the processes that were started alike, from 0. Under torchrun and srun that is the
            global rank, by hand on each machine the number of the machine.
        count: How many those are; None for "node", where only the configuration has it.
        local: Its index on its machine, from 0.
    """

    started_by: Literal["user", "lightning", "torchrun", "srun", "hand", "node"]
    number: int
    count: int | None
    local: int

    @property
    def is_main(self) -> bool:
        """Whether this is the one process that claims the run directory, writes and prints."""
        return self.number == 0 and self.started_by != "lightning"

    @property
    def meets_others(self) -> bool:
        """Whether others were started beside it, and not by it, so that they need a rendezvous."""
        return self.count != 1 and self.started_by != "lightning"


@cache
def this_process() -> Rank:
    """Returns the rank of this process, and removes from ``os.environ`` what would mislead Lightning.

    Lightning starts no processes where it finds a LOCAL_RANK, and looks for the others wherever MASTER_ADDR points.

    Raises:
        UsageError: If it cannot be known.
    """
    rank = rank_of(os.environ, os.getppid())
    if rank.started_by in ("user", "node"):
        kept = _NODE if rank.started_by == "node" else ()
        for name in set(os.environ) - set(without_ranks(os.environ)) - set(kept):
            del os.environ[name]
        os.environ[_LAUNCHER] = str(os.getpid())
    return rank


def without_ranks(environment: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment of a process that is started alone."""
    known = {*_TORCH, *_NODE, *_NUMBERS, "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE", "ROLE_RANK", "ROLE_WORLD_SIZE"}
    return {
        name: value for name, value in environment.items() if name not in known and not name.startswith("TORCHELASTIC_")
    }


def rank_of(environment: Mapping[str, str], parent: int = 0) -> Rank:
    """Returns the rank of this process according to its environment.

    torchrun is asked before SLURM, as srun may start one torchrun per machine; and a SLURM step of one process, such as
    a job of submitit, starts its own processes like any other. Variables that are incomplete and say "the first" are
    left over from something else: this process was started alone.

    Args:
        environment: ``os.environ`` as it was when the process began.
        parent: Id of the process that started this one.

    Raises:
        UsageError: If the variables are incomplete and this is not the first process, contradict each other, or are of
            a launcher that is not known.
    """
    if environment.get(_LAUNCHER) == str(parent) and _number(environment, "LOCAL_RANK") > 0:
        local = _number(environment, "LOCAL_RANK")
        return Rank("lightning", local, 1, local)
    complete = all(name in environment for name in _TORCH)
    if complete and "TORCHELASTIC_RUN_ID" in environment:
        return _of_torch(environment, "torchrun")
    if (step := _of_slurm(environment)) is not None:
        return step
    if complete and _number(environment, "WORLD_SIZE") > 1:
        return _of_torch(environment, "hand")
    if all(name in environment for name in _NODE) and _number(environment, "LOCAL_RANK") == 0:
        return Rank("node", _number(environment, "NODE_RANK"), None, 0)
    for launcher, name in _OTHER_LAUNCHERS.items():
        if "SLURM_STEP_ID" not in environment and _number(environment, name, 1) > 1:
            raise UsageError(
                f"{launcher} started {environment[name]} processes ({name}); packnet-train runs under torchrun and "
                "srun, or starts its processes itself: trainer=ddp trainer.devices=N"
            )
    for name in _NUMBERS:
        if _number(environment, name) > 0:
            needed = _NODE if name in ("NODE_RANK", "GROUP_RANK") else _TORCH
            missing = [other for other in needed if other not in environment]
            lacking = f", but not {', '.join(missing)}" if missing else ""
            raise UsageError(
                f"{name}={environment[name]} is set in the environment, as for one of several processes{lacking}; "
                f"unset {name} to start this one alone, or set all of {', '.join(needed)}"
            )
    return Rank("user", 0, 1, 0)


def _of_torch(environment: Mapping[str, str], started_by: Literal["torchrun", "hand"]) -> Rank:
    number, count = _number(environment, "RANK"), _number(environment, "WORLD_SIZE")
    _check_number("RANK", number, "WORLD_SIZE", count)
    return Rank(started_by, number, count, _number(environment, "LOCAL_RANK"))


def _of_slurm(environment: Mapping[str, str]) -> Rank | None:
    """Returns the rank in a step of several processes; None in a shell within a step, which started this by hand."""
    if "SLURM_STEP_ID" not in environment:
        return None
    # Of an allocation for several, the shell that salloc gives is a step of one.
    name = "SLURM_STEP_NUM_TASKS" if "SLURM_STEP_NUM_TASKS" in environment else "SLURM_NTASKS"
    count = _number(environment, name, 1)
    in_shell = PurePath(environment.get("SLURM_JOB_NAME", "")).name in _SHELLS
    if count == 1 or (in_shell and (name == "SLURM_NTASKS" or "SLURM_PTY_PORT" in environment)):
        return None
    for needed in ("SLURM_PROCID", "SLURM_LOCALID"):
        if needed not in environment:
            raise UsageError(
                f"{name}={count} is set in the environment, as by srun, but not {needed}: start packnet-train with "
                f"srun, or alone, without {name}"
            )
    number = _number(environment, "SLURM_PROCID")
    _check_number("SLURM_PROCID", number, name, count)
    return Rank("srun", number, count, _number(environment, "SLURM_LOCALID"))


def _number(environment: Mapping[str, str], name: str, default: int = 0) -> int:
    value = environment.get(name) or str(default)
    if not value.isdecimal():
        raise UsageError(f"{name}={value} is set in the environment, and is no number of processes; unset it")
    return int(value)


def _check_number(name: str, number: int, of: str, count: int) -> None:
    if number >= count:
        raise UsageError(f"{name}={number} is set in the environment, but {of}={count}: numbers begin with 0")
