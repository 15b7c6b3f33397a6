"""One job of a sweep: a ``packnet-train`` of its own, in a process of its own.

In one process the second job of a sweep would inherit what the first left behind, and under DDP the further processes
would sweep once more: each with other settings than its main process, and nobody would notice.
"""

import os
import shlex
import signal
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from packnet_pl.configuration.arch_names import short_names
from packnet_pl.configuration.overrides import key_of, quoted
from packnet_pl.configuration.resume_rules import is_harmless
from packnet_pl.ranks import without_ranks
from packnet_pl.results import is_complete, read_results
from packnet_pl.run_directory import read_run
from packnet_pl.sweep_jobs import Job, append_job

_OF_THE_SWEEP = ("hydra.mode", "hydra.run", "hydra.sweep", "hydra/sweep", "hydra.launcher", "hydra/launcher")

__all__ = ["JobFailedError", "objective", "run_job"]


class JobFailedError(Exception):
    """A job of a sweep ended with an error, which it has reported itself."""


def run_job(config: DictConfig) -> float | tuple[float, ...]:
    """Runs one job of a sweep, or what is left of it, and returns what the sweep optimizes.

    A job that is complete in its folder already is kept, one that was broken off goes on. What became of it is written
    down in the sweep's directory, whoever launched it.

    Args:
        config: Composed by Hydra; the rest comes from ``HydraConfig``.

    Raises:
        JobFailedError: If it fails.
    """
    hydra = HydraConfig.get()
    sweep = Path(hydra.sweep.dir).absolute()
    job = Job(hydra.job.num, Path(hydra.runtime.output_dir), tuple(_identifying(list(hydra.overrides.task))), "begun")
    before = append_job(sweep, job)
    try:
        value = _value_of(job, before, config)
    except BaseException:
        append_job(sweep, replace(job, state="failed"))
        raise
    append_job(sweep, replace(job, state="complete"))
    return value


def _value_of(this: Job, before: Job | None, config: DictConfig) -> float | tuple[float, ...]:
    """Returns the objective of a job, whose folder may be known from before."""
    job, folder = HydraConfig.get(), this.folder
    overrides = list(job.overrides.task)
    aims = config.sweep.objective
    saved = read_run(folder)
    if before is not None and before.number != this.number and before.overrides != this.overrides:
        taken = saved is not None or before.state != "failed"  # what failed early has left nothing
        if taken:
            raise JobFailedError(
                f"job {before.number} ({shlex.join(before.overrides)}) and job {this.number} "
                f"({shlex.join(this.overrides)}) have the same folder {folder}: hydra.sweep.subdir must tell them "
                "apart, as hydra.sweep.subdir='${hydra.job.num}' does"
            )
    if saved is not None:
        if tuple(_identifying(saved.overrides)) != this.overrides:
            raise JobFailedError(
                f"{folder} holds a run of other settings ({shlex.join(_identifying(saved.overrides))}) than this job "
                f"({shlex.join(this.overrides)}): give the sweep a directory of its own, hydra.sweep.dir=..."
            )
        if is_complete(folder, saved):
            print(f"[{this.number}] {folder} is complete", file=sys.stderr)  # noqa: T201
            return objective(folder, aims)
        overrides.append("resume=true")
    if config.sweep.share:
        overrides.append(f"checkpoint.shared={quoted(Path(job.sweep.dir).absolute() / 'shared')}")
    sources = [source.path for source in job.runtime.config_sources if source.provider == "command-line"]
    options = ["--config-dir", sources[0]] if sources else []
    options += ["--config-name", job.job.config_name] if job.job.config_name not in (None, "train") else []
    overrides += [override for override in job.overrides.hydra if not key_of(override).startswith(_OF_THE_SWEEP)]
    # What Hydra keeps of a job's configuration is there already.
    overrides += [f"hydra.run.dir={quoted(folder)}", "hydra.output_subdir=null", "hydra.mode=RUN"]
    command = [sys.executable, "-m", "packnet_pl.cli.train", *options, *overrides]
    print(f"[{this.number}] {shlex.join(this.overrides)}", file=sys.stderr, flush=True)  # noqa: T201
    code = _run(command, job.runtime.cwd, f"[{this.number}] ")
    if code:
        raise JobFailedError(f"{folder} ended with exit code {code}: {shlex.join(this.overrides)}")
    return objective(folder, aims)


def objective(folder: Path, aims: Any) -> float | tuple[float, ...]:
    """Returns the value that a sweeper optimizes for a finished run; test accuracies have no part in it.

    Args:
        folder: The run directory.
        aims: "val_accuracy" (mean over the tasks at the end of the run, in [0, 1]), "free" (share of weights that
            nobody owns, in [0, 1]), or a list of both.
    """
    results = read_results(folder)
    known = [value for value in results.val_now if value is not None]
    values = {"val_accuracy": sum(known) / len(known)}
    if results.free is not None:  # methods that own nothing are not judged by it
        values["free"] = results.free
    return tuple(values[aim] for aim in aims) if OmegaConf.is_list(aims) else values[aims]


def _identifying(overrides: list[str]) -> list[str]:
    """Returns the overrides that identify a job, sorted."""
    return sorted(override.lstrip("+") for override in short_names(overrides) if _identifies(key_of(override)))


def _identifies(key: str) -> bool:
    # A run may go on with more tasks, but no job of a sweep may take the place of one with others.
    return key == "sequence.add" or not (is_harmless(key) or key.startswith("hydra"))


def _run(command: list[str], cwd: str, prefix: str) -> int:
    """Runs ``command`` and passes on its output, each line with ``prefix``, and the signals that this process gets."""
    process = subprocess.Popen(
        command,
        cwd=cwd,
        env=without_ranks(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    came: list[int] = []

    def pass_on(signum: int, frame: FrameType | None) -> None:
        came.append(signum)
        process.send_signal(signum)

    in_main = threading.current_thread() is threading.main_thread()
    before = {signum: signal.signal(signum, pass_on) for signum in (signal.SIGTERM, signal.SIGUSR1) if in_main}
    try:
        assert process.stdout is not None
        for line in process.stdout:
            print(prefix + line, end="", file=sys.stderr, flush=True)  # noqa: T201
        code = process.wait()
    except KeyboardInterrupt:
        process.wait()  # Ctrl-C reached it too
        raise
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
    if came:
        sys.exit(128 + came[0])  # no job comes after this one
    return code if code >= 0 else 128 - code
