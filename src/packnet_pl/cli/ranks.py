"""Which of the processes of a run this one is, and who started it: told by the environment alone."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

__all__ = ["Rank", "rank_of"]


@dataclass(frozen=True)
class Rank:
    """This process among those of its run.

    Attributes:
        started_by: "user" for a process that was started alone (Lightning may start others for it), "lightning" for
            one of those others, "torchrun", "srun", or "node" for one that was started by hand on each machine.
        number: Its place among the processes that were started alike, from 0. Under torchrun and srun that is the
            global rank, by hand the number of the machine.
        count: How many those are; None by hand, where only the configuration tells.
        local: Its place on its machine, from 0.
    """

    started_by: Literal["user", "lightning", "torchrun", "srun", "node"]
    number: int
    count: int | None
    local: int

    @property
    def is_main(self) -> bool:
        """Whether this is the one process that claims the run directory, writes and prints."""
        return self.number == 0 and self.started_by != "lightning"

    @property
    def meets_others(self) -> bool:
        """Whether others were started beside it, and not by it: they have to find each other first."""
        return self.count != 1 and self.started_by != "lightning"


def rank_of(environment: Mapping[str, str]) -> Rank:
    """Returns what the environment tells of this process.

    torchrun is asked before SLURM, as srun may start one torchrun per machine; and a SLURM step of one process, such as
    a job of submitit, starts its own processes like any other.

    Args:
        environment: ``os.environ`` as it was when the process began.
    """
    local = int(environment.get("LOCAL_RANK", 0))
    if "TORCHELASTIC_RUN_ID" in environment and "RANK" in environment:
        return Rank("torchrun", int(environment["RANK"]), int(environment["WORLD_SIZE"]), local)
    if local > 0:
        return Rank("lightning", local, 1, local)
    if "SLURM_STEP_ID" in environment and int(environment.get("SLURM_NTASKS", 1)) > 1:
        count, local = int(environment["SLURM_NTASKS"]), int(environment["SLURM_LOCALID"])
        return Rank("srun", int(environment["SLURM_PROCID"]), count, local)
    if all(name in environment for name in ("NODE_RANK", "MASTER_ADDR", "MASTER_PORT")):
        return Rank("node", int(environment["NODE_RANK"]), None, local)
    return Rank("user", 0, 1, local)
