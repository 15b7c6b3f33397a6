"""Trains a prepared run in one process, up to the table of results."""

import logging
import shlex
import sys
from pathlib import Path

from pytorch_lightning.utilities import rank_zero_only
from rich.console import Console

from packnet_pl.configuration.packed_source import arch_name, sequence_name
from packnet_pl.configuration.run_config import RunConfig
from packnet_pl.configuration.run_plan import build_plan
from packnet_pl.configuration.task_settings import lower_rate
from packnet_pl.console import output_console, print_fitting
from packnet_pl.errors import this_program
from packnet_pl.launch.connecting_signals import answer_while_connecting
from packnet_pl.launch.parent_watch import end_with_parent
from packnet_pl.launch.prepare import Prepared
from packnet_pl.launch.rendezvous import Rendezvous
from packnet_pl.launch.shared_first_task import with_shared_training
from packnet_pl.packed import Packed
from packnet_pl.ranks import Rank
from packnet_pl.report import results_table
from packnet_pl.run import StoppedError, StopRequest, adopt_packed, run_sequence
from packnet_pl.training import DivergedError

__all__ = ["listen", "train"]


def listen(rank: Rank) -> StopRequest:
    """Leaves signals to the training from now on, and lets only the main process print.

    Returns:
        What says whether a signal came.
    """
    # Lightning guesses it from the environment, and knows one that was started by hand only when all are connected.
    rank_zero_only.rank = rank.number  # type: ignore[attr-defined]
    if not rank.is_main:
        logging.getLogger("packnet_pl").setLevel(logging.ERROR)
    if rank.started_by in ("lightning", "torchrun"):
        end_with_parent()
    stop = StopRequest()
    stop.listen()
    answer_while_connecting(rank.count)
    return stop


def train(prepared: Prepared, folder: Path, rank: Rank, rendezvous: Rendezvous | None, stop: StopRequest) -> None:
    """Trains all tasks of the run, and prints the table of results.

    Args:
        prepared: The run.
        folder: Its directory, absolute.
        rank: This process.
        rendezvous: With the processes that were started beside this one, if there are any.
        stop: From :func:`listen`.
    """
    run, parts = prepared
    config = run.config
    arch, sequence = _names(run, parts.packed)
    plan = build_plan(config, folder, arch, parts, sequence_name=sequence)
    if parts.packed is not None and rank.is_main:
        adopt_packed(folder, parts.packed)
    try:
        if rank.is_main:
            plan = with_shared_training(plan, config, stop)
        if rendezvous is not None:
            rendezvous.barrier("begin", wait=stop.raise_if_asked)
        # Where colours are asked for without a terminal (FORCE_COLOR), lines do, too.
        interactive = None if sys.stderr.isatty() else False
        console = Console(stderr=True, quiet=not rank.is_main, force_interactive=interactive)
        results = run_sequence(plan, parts.model, console, stop)
    except StoppedError as stopped:
        if rank.is_main:
            again = f"packnet-resume {shlex.quote(str(folder))}"
            _say(f"{stopped}; what was done is saved. Go on: {again}")
        # Lightning kills the main process where it finds that another one has failed.
        sys.exit(128 + stopped.signum if rank.is_main else 0)
    except DivergedError as error:
        # Whichever process notices it: the others wait for its gradients, and are stopped.
        again = shlex.join(["packnet-resume", str(folder), lower_rate(config, error.task, error.phase)])
        _say(f"{error}. Try it again with a tenth of the rate: {again}")
        sys.exit(2)
    console = output_console(quiet=not rank.is_main)
    print_fitting(console, results_table(results), results_table(results, stacked=True))
    console.print(f"make its page: packnet-report {shlex.quote(str(folder))}", highlight=False, soft_wrap=True)
    console.print(f"run directory: {folder}", highlight=False, soft_wrap=True)


def _names(run: RunConfig, packed: Packed | None) -> tuple[str, str | None]:
    """Returns the names of the network and of the sequence, for the results."""
    choices = run.composed.hydra.runtime.choices
    arch, sequence = run.config.arch.get("name", choices.get("arch")), choices.get("sequence")
    if not run.config.packed or packed is None:
        return arch, sequence
    return arch_name(packed.header), sequence_name(packed.header, run.overrides, run.main) or sequence


def _say(message: str) -> None:
    print(f"{this_program()}: {message}", file=sys.stderr)  # noqa: T201
