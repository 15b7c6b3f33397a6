"""Prepares one run in processes that were started beside each other (torchrun, srun, by hand on each machine).

The main one claims the run directory; the others take its name, whatever time stamp they would have made themselves.
"""

from argparse import Namespace
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from omegaconf import OmegaConf

from packnet_pl.configuration.overrides import quoted
from packnet_pl.configuration.resume_rules import differing
from packnet_pl.configuration.run_config import configure
from packnet_pl.errors import UsageError, is_mendable, one_line
from packnet_pl.launch.prepare import Prepared, build, claim_and_build
from packnet_pl.launch.rendezvous import Rendezvous
from packnet_pl.ranks import Rank

if TYPE_CHECKING:
    from packnet_pl.configuration.components import Parts

__all__ = ["follow", "lead"]


def lead(rank: Rank, arguments: Namespace, rendezvous: Rendezvous) -> Prepared:
    """Prepares the run in the main process, and has the others do the same.

    Raises:
        UsageError: If the run cannot begin, here or in another process.
    """
    is_sent = False

    def built(prepared: Prepared) -> None:
        nonlocal is_sent
        is_sent = True
        run = prepared.run
        overrides = [
            f"hydra.run.dir={quoted(run.folder.absolute())}",
            "hydra.output_subdir=null",
            f"resume={str(bool(run.config.resume)).lower()}",
        ]
        config, data = OmegaConf.to_container(run.config), _inventories(prepared.parts)
        message = {"overrides": overrides, "config": config, "data": data}
        rendezvous.broadcast(message, rank.count or run.config.trainer.num_nodes)
        rendezvous.barrier("built")

    try:
        return claim_and_build(configure(arguments), built)
    except BaseException:
        if not is_sent:
            rendezvous.cancel()
        raise


def follow(rank: Rank, arguments: Namespace, rendezvous: Rendezvous) -> Prepared:
    """Prepares the run in a process other than the main one, which sends its directory.

    Raises:
        UsageError: If it cannot begin.
    """
    message = rendezvous.receive()
    # As Lightning names the processes that it starts: each has a log of its own.
    arguments.overrides += [*message["overrides"], f"hydra.job.name=train_ddp_process_{rank.number}"]
    try:
        run = configure(arguments)
        prepared = build(run)
        for key in differing(message["config"], run.to_save().config):
            raise UsageError(f"its {key} is not that of process 0; start all with the same words")
        here = _inventories(prepared.parts)
        for name in set(message["data"]) ^ set(here):
            raise UsageError(f"the images of {name!r} are on one machine only; all need them, or none")
        for name, splits in here.items():
            for split in [split for split in splits if splits[split] != message["data"][name][split]]:
                raise UsageError(f"its {split} split of {name!r} is not that of process 0; all need the same images")
    except BaseException as error:
        rendezvous.barrier("built", one_line(error) or type(error).__name__)
        if isinstance(error, Exception) and is_mendable(error):
            rendezvous.leave_quietly()
        raise
    rendezvous.barrier("built")
    return prepared


def _inventories(parts: "Parts") -> dict[str, Any]:
    """Returns task -> the content of its splits as JSON, of tasks whose data are here."""
    return {name: asdict(data.inventory)["splits"] for name, data in parts.data.items() if data is not None}
