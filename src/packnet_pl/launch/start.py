"""Starts ``packnet-train``: from its command line, composed once, to the first batch, as a job of Hydra's."""

from argparse import Namespace
from typing import TYPE_CHECKING

from hydra.types import RunMode
from omegaconf import DictConfig

from packnet_pl.configuration.compose import compose
from packnet_pl.configuration.given_values import check_given
from packnet_pl.errors import answering_errors, this_program
from packnet_pl.ranks import Rank

# What comes after a configuration that is right is imported when it is there: one that is wrong is answered at once.
if TYPE_CHECKING:
    from packnet_pl.launch.prepare import Prepared
    from packnet_pl.launch.rendezvous import Rendezvous
    from packnet_pl.run import StopRequest

__all__ = ["start"]


def start(arguments: Namespace, rank: Rank) -> None:
    """Trains the run of a command line, in this process: the only one, or one of several.

    Args:
        arguments: The command line.
        rank: This process.

    Raises:
        UsageError: If the run cannot begin, here or in another process.
    """
    if rank.started_by == "lightning":
        _train_beside(arguments, rank)
    elif rank.meets_others:
        _train_together(arguments, rank)
    else:
        check_given(arguments.overrides)
        composed = compose(arguments, arguments.overrides)
        if composed.hydra.mode == RunMode.MULTIRUN:  # an experiment may say so
            from packnet_pl.launch.sweep import sweep

            sweep(arguments, rank)
        else:
            from packnet_pl.configuration.run_config import configure
            from packnet_pl.launch.prepare import claim_and_build

            _train(claim_and_build(configure(arguments, composed)), rank, None)


def _train_beside(arguments: Namespace, rank: Rank) -> None:
    """Trains in a process that Lightning started beside the main one, which has claimed the run directory."""
    from packnet_pl.configuration.run_config import configure
    from packnet_pl.launch.prepare import build
    from packnet_pl.launch.training import listen

    stop = listen(rank)  # first: who waits for this process has begun already
    _train(build(configure(arguments)), rank, None, stop)


def _train_together(arguments: Namespace, rank: Rank) -> None:
    """Trains in one of several processes that were started beside each other, and have to find each other first."""
    from packnet_pl.launch.rendezvous import Rendezvous
    from packnet_pl.launch.together import follow, lead
    from packnet_pl.run.process_environment import environment_of

    environment = environment_of(rank)
    rendezvous = Rendezvous(rank, environment.main_address, environment.main_port)
    prepared = (lead if rank.is_main else follow)(rank, arguments, rendezvous)
    _train(prepared, rank, rendezvous)


def _train(
    prepared: "Prepared", rank: Rank, rendezvous: "Rendezvous | None", stop: "StopRequest | None" = None
) -> None:
    """Trains as a job of Hydra's."""
    from packnet_pl.launch.hydra_job import run_as_job
    from packnet_pl.launch.training import listen, train

    folder = prepared.run.folder.absolute()  # the job may be in another one

    def job(config: DictConfig) -> None:
        # Inside the job as well: Hydra would put a line of its own before the error's.
        with answering_errors(this_program()):
            train(prepared, folder, rank, rendezvous, stop or listen(rank))

    run_as_job(prepared.run, job)
