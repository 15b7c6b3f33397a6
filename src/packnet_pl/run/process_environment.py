"""Chooses Lightning's cluster environment by who started this process: srun, torchrun, or nobody."""

from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from lightning_fabric.plugins.environments.slurm import SLURMEnvironment
from lightning_fabric.plugins.environments.torchelastic import TorchElasticEnvironment

from packnet_pl.errors import UsageError
from packnet_pl.ranks import Rank

__all__ = ["environment_of"]


def environment_of(rank: Rank) -> ClusterEnvironment:
    """Returns Lightning's plug-in for whoever started this process.

    Raises:
        UsageError: If srun was not given how many processes are to run on each machine.
    """
    if rank.started_by in ("torchrun", "hand"):
        return TorchElasticEnvironment()
    if rank.started_by == "srun":
        try:
            # A run saves and leaves by itself when it is signalled; Lightning would requeue the job before that.
            return SLURMEnvironment(auto_requeue=False)
        except RuntimeError as error:
            raise UsageError(
                f"srun started {rank.count} processes, and did not say how many on each machine: give it "
                "--ntasks-per-node=N and --nodes=M instead of --ntasks, and packnet-train the same as "
                "trainer.devices=N trainer.num_nodes=M"
            ) from error
    return LightningEnvironment()
