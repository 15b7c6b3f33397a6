"""``packnet-train``: trains a sequence of tasks into one network."""

import logging
import os
import shlex
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from packnet_pl.configuration.compose import CONFIG_MODULE, checked, set_up, sort_arguments, starts_a_run
from packnet_pl.configuration.help import help_text
from packnet_pl.configuration.packed_source import arch_name, sequence_name
from packnet_pl.errors import STARTED_BY, UsageError, answering_errors
from packnet_pl.launch.connecting import answer_while_connecting
from packnet_pl.launch.parent_watch import end_with_parent
from packnet_pl.launch.rendezvous import Meeting, prepare_together
from packnet_pl.launch.study import is_of_study, reason
from packnet_pl.launch.sweep import JobFailedError, fix_directory, run_job, summarize
from packnet_pl.ranks import Rank, this_process
from packnet_pl.sweep_jobs import size_of_jobs

if TYPE_CHECKING:
    from packnet_pl.configuration.components import Parts

__all__ = ["main", "train"]


_OPTUNA_HAS_NONE = "No trials are completed yet."  # it looks for the best job, and all of them failed


def main() -> None:  # noqa: C901
    """Runs the command line."""
    for signum in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(signum, _leave)
    set_up()
    with answering_errors(_program()):
        arguments = sort_arguments()
        if arguments.help:
            sys.stdout.write(help_text())
            return
        rank = this_process()
        if arguments.multirun and rank.meets_others:
            raise UsageError(
                f"-m starts the processes of each job itself, but {rank.started_by} started several of this one; "
                "start packnet-train -m once, without it"
            )
        sweep = fix_directory(arguments) if arguments.multirun else None
        begin = size_of_jobs(sweep) if sweep is not None else 0
        parts, meeting = prepare_together(rank, arguments) if starts_a_run(arguments, rank) else (None, None)

        def job(config: DictConfig) -> float | tuple[float, ...] | None:
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                return run_job(config)
            # Inside the job as well: Hydra would put a line of its own before the error's.
            with answering_errors(_program()):
                train(config, parts, rank, meeting)
            return None

        complete = True
        try:
            hydra.main(version_base="1.3", config_path=f"pkg://{CONFIG_MODULE}", config_name="train")(job)()
        except JobFailedError as error:
            complete = False
            print(f"{_program()}: {error}", file=sys.stderr)  # noqa: T201
        except Exception as error:
            if sweep is None or not is_of_study(error):
                raise
            if str(error) != _OPTUNA_HAS_NONE:
                raise UsageError(f"the search's study: {reason(error)}") from error
            complete = False
            print(f"{_program()}: {error}", file=sys.stderr)  # noqa: T201
        finally:
            if sweep is not None:
                complete = summarize(sweep, begin) and complete
        if not complete:
            sys.exit(1)


def train(config: DictConfig, parts: "Parts | None", rank: Rank, meeting: Meeting | None) -> None:
    """Runs one job.

    Args:
        config: Composed by Hydra.
        parts: What was built from it already; None in a process that Lightning started.
        rank: This process.
        meeting: With the processes that were started beside this one, if there are any.
    """
    from pytorch_lightning.utilities import rank_zero_only
    from rich.console import Console

    from packnet_pl.configuration.components import build_parts
    from packnet_pl.configuration.run_plan import build_plan, with_shared_training
    from packnet_pl.configuration.task_settings import lower_rate
    from packnet_pl.report import TABLE_WIDTH, results_table
    from packnet_pl.run import StoppedError, StopRequest, adopt_packed, run_sequence
    from packnet_pl.training import DivergedError

    hydra_config = HydraConfig.get()
    job, words = hydra_config.runtime, list(hydra_config.overrides.task)
    folder = Path(job.output_dir)
    main_process = rank.is_main
    # Lightning guesses it from the environment, and knows one that was started by hand only when all are connected.
    rank_zero_only.rank = rank.number  # type: ignore[attr-defined]
    if not main_process:
        logging.getLogger("packnet_pl").setLevel(logging.ERROR)
    if rank.started_by in ("lightning", "torchrun"):
        end_with_parent()
    stop = StopRequest()
    stop.listen()
    answer_while_connecting(rank.count)
    config, tasks = checked(config, folder, words, hydra_config.job.config_name or "train")
    parts = parts or build_parts(config, tasks, folder)
    arch, sequence = config.arch.get("name", job.choices["arch"]), job.choices.get("sequence")
    if config.packed and parts.packed is not None:
        header, main = parts.packed.header, hydra_config.job.config_name or "train"
        arch, sequence = arch_name(header), sequence_name(header, words, main) or sequence
    plan = build_plan(config, folder, arch, parts, sequence_name=sequence)
    if parts.packed is not None and main_process:
        adopt_packed(folder, parts.packed)
    try:
        if main_process:
            plan = with_shared_training(plan, config, stop)
        if meeting is not None:
            meeting.agree("begin", wait=stop.raise_if_asked)
        results = run_sequence(plan, parts.model, Console(stderr=True, quiet=not main_process), stop)
    except StoppedError as stopped:
        if main_process:
            again = f"packnet-resume {shlex.quote(str(folder))}"
            print(f"{_program()}: {stopped}; what was done is saved. Go on: {again}", file=sys.stderr)  # noqa: T201
        # Lightning kills the main process where it finds that another one has failed.
        sys.exit(128 + stopped.signum if main_process else 0)
    except DivergedError as error:
        # Whichever process notices it: the others wait for its gradients, and are stopped.
        again = shlex.join(["packnet-resume", str(folder), lower_rate(config, error.task, error.phase)])
        print(f"{_program()}: {error}. Try it again with a tenth of the rate: {again}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    console = Console(quiet=not main_process, width=None if sys.stdout.isatty() else TABLE_WIDTH)
    console.print(results_table(results.dump()))
    console.print(f"run directory: {folder}", highlight=False, soft_wrap=True)


def _program() -> str:
    """Returns the command whose errors these are: packnet-resume becomes this one."""
    return os.environ.get(STARTED_BY, "packnet-train")


def _leave(signum: int, frame: FrameType | None) -> None:
    """Answers the signals until the run itself listens to them."""
    print(f"{_program()}: stopped by {signal.Signals(signum).name} before training began", file=sys.stderr)  # noqa: T201
    os._exit(128 + signum)


if __name__ == "__main__":
    main()
