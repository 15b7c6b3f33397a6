"""``packnet-train``: trains a sequence of tasks into one network."""

import os
import shlex
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from packnet_pl.cli.errors import answering_errors
from packnet_pl.cli.help import help_text
from packnet_pl.cli.prepare import CONFIG_MODULE, checked, prepare, set_up, sort_arguments, starts_a_run
from packnet_pl.cli.run_directory import SavedRun, claimed
from packnet_pl.cli.sweep import JobFailedError, fix_directory, run_job, summarize

if TYPE_CHECKING:
    from packnet_pl.cli.build import Parts

__all__ = ["main", "train"]

PROGRAM = "packnet-train"


def main() -> None:
    """Runs the command line."""
    for signum in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(signum, _leave)
    set_up()
    with answering_errors(PROGRAM):
        arguments = sort_arguments()
        if arguments.help:
            sys.stdout.write(help_text())
            return
        sweep = fix_directory(arguments, CONFIG_MODULE) if arguments.multirun else None
        parts = prepare(arguments, to_train=True)[1] if starts_a_run(arguments) else None

        def job(config: DictConfig) -> float | tuple[float, ...] | None:
            if HydraConfig.get().mode == RunMode.MULTIRUN:
                return run_job(config)
            # Inside the job as well: Hydra would put a line of its own before the error's.
            with answering_errors(PROGRAM):
                train(config, parts)
            return None

        try:
            hydra.main(version_base="1.3", config_path=f"pkg://{CONFIG_MODULE}", config_name="train")(job)()
        except JobFailedError as error:
            print(f"{PROGRAM}: {error}", file=sys.stderr)  # noqa: T201
        finally:
            if sweep is not None:
                summarize(sweep)


def train(config: DictConfig, parts: "Parts | None" = None) -> None:
    """Runs one job.

    Args:
        config: Composed by Hydra.
        parts: What was built from it already, if anything was.
    """
    from rich.console import Console

    from packnet_pl.cli.build import build_parts, build_plan, with_shared_training
    from packnet_pl.report import TABLE_WIDTH, results_table
    from packnet_pl.run import StoppedError, StopRequest, adopt_packed, run_sequence

    job = HydraConfig.get().runtime
    folder = Path(job.output_dir)
    main_process = os.environ.get("LOCAL_RANK", "0") == "0"
    stop = StopRequest()
    stop.listen()
    config = checked(config, folder)
    if parts is None and main_process:
        words = list(HydraConfig.get().overrides.task)
        plain: Any = OmegaConf.to_container(config)
        with claimed(
            folder, SavedRun(words, None, HydraConfig.get().job.config_name or "train", str(Path.cwd()), plain)
        ):
            parts = build_parts(config, folder)
    parts = parts or build_parts(config, folder)
    plan = build_plan(config, folder, config.arch.get("name", job.choices["arch"]), parts)
    if parts.packed is not None and main_process:
        adopt_packed(folder, parts.packed)
    if main_process:
        plan = with_shared_training(plan, config, stop)
    try:
        results = run_sequence(plan, parts.model, Console(stderr=True, quiet=not main_process), stop)
    except StoppedError as stopped:
        if main_process:
            again = f"packnet-resume {shlex.quote(str(folder))}"
            print(f"{PROGRAM}: {stopped}; what was done is saved. Go on: {again}", file=sys.stderr)  # noqa: T201
        # Lightning kills the main process where it finds that another one has failed.
        sys.exit(128 + stopped.signum if main_process else 0)
    console = Console(quiet=not main_process, width=None if sys.stdout.isatty() else TABLE_WIDTH)
    console.print(results_table(results.dump()))
    console.print(f"run directory: {folder}", highlight=False, soft_wrap=True)


def _leave(signum: int, frame: FrameType | None) -> None:
    """Answers the signals until the run itself listens to them."""
    print(f"{PROGRAM}: stopped by {signal.Signals(signum).name} before training began", file=sys.stderr)  # noqa: T201
    os._exit(128 + signum)


if __name__ == "__main__":
    main()
