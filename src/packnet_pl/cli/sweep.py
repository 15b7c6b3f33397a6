"""Sweeps (``-m``): each job is a ``packnet-train`` of its own, in a process of its own.

In one process the second job of a sweep would inherit what the first left behind, and under DDP the further processes
would sweep once more: each with other settings than its main process, and nobody would notice.
"""

import json
import shlex
import signal
import subprocess
import sys
import threading
from argparse import Namespace
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf

from packnet_pl.cli.continuing import is_harmless
from packnet_pl.cli.errors import one_line
from packnet_pl.cli.prepare import compose
from packnet_pl.cli.run_directory import is_complete, read_run
from packnet_pl.cli.usage import UsageError
from packnet_pl.cli.words import key_of, quoted

_OF_THE_SWEEP = ("hydra.mode", "hydra.run", "hydra.sweep", "hydra/sweep", "hydra.launcher", "hydra/launcher")

__all__ = ["JobFailedError", "fix_directory", "objective", "run_job", "summarize"]


class JobFailedError(Exception):
    """A job of a sweep ended with an error, which it has said itself."""


def fix_directory(arguments: Namespace) -> Path:
    """Puts the sweep's directory into ``sys.argv``, and returns it: a time stamp in it is one for all of its parts.

    Raises:
        UsageError: If the words cannot be composed.
    """
    try:
        parsed = OverridesParser.create().parse_overrides(arguments.overrides)
    except HydraException as error:
        raise UsageError(one_line(error)) from error
    fixed = [word for word, one in zip(arguments.overrides, parsed, strict=True) if not one.is_sweep_override()]
    folder = Path(compose(arguments, fixed).hydra.sweep.dir).absolute()
    sys.argv[1:] = [word for word in sys.argv[1:] if key_of(word) != "hydra.sweep.dir"]
    sys.argv.append(f"hydra.sweep.dir={quoted(folder)}")
    return folder


def run_job(config: DictConfig) -> float | tuple[float, ...]:
    """Runs one job of a sweep, or what is left of it, and returns what the sweep optimizes.

    A job that is complete in its folder already is kept, one that was broken off goes on.

    Args:
        config: Composed by Hydra; the rest comes from ``HydraConfig``.

    Raises:
        JobFailedError: If it fails.
    """
    job = HydraConfig.get()
    folder = Path(job.runtime.output_dir)
    words = list(job.overrides.task)
    aims = config.sweep.objective
    saved = read_run(folder)
    if saved is not None:
        if _telling(saved.overrides) != _telling(words):
            raise JobFailedError(
                f"{folder} holds a run of other settings ({shlex.join(_telling(saved.overrides))}) than this job "
                f"({shlex.join(_telling(words))}): give the sweep a directory of its own, hydra.sweep.dir=..."
            )
        if is_complete(folder, saved):
            print(f"[{job.job.num}] {folder} is complete", file=sys.stderr)  # noqa: T201
            return objective(folder, aims)
        words.append("resume=true")
    if config.sweep.share:
        words.append(f"checkpoint.shared={quoted(Path(job.sweep.dir).absolute() / 'shared')}")
    sources = [source.path for source in job.runtime.config_sources if source.provider == "command-line"]
    options = ["--config-dir", sources[0]] if sources else []
    options += ["--config-name", job.job.config_name] if job.job.config_name not in (None, "train") else []
    words += [word for word in job.overrides.hydra if not key_of(word).startswith(_OF_THE_SWEEP)]
    # What Hydra keeps of a job's configuration is there already.
    words += [f"hydra.run.dir={quoted(folder)}", "hydra.output_subdir=null"]
    command = [sys.executable, "-m", "packnet_pl.cli.train", *options, *words]
    print(f"[{job.job.num}] {shlex.join(_telling(words))}", file=sys.stderr, flush=True)  # noqa: T201
    code = _run(command, job.runtime.cwd, f"[{job.job.num}] ")
    if code:
        raise JobFailedError(f"{folder} ended with exit code {code}: {shlex.join(_telling(words))}")
    return objective(folder, aims)


def objective(folder: Path, aims: Any) -> float | tuple[float, ...]:
    """Returns what a finished run is judged by; test accuracies have no part in it.

    Args:
        folder: The run directory.
        aims: "val_accuracy" (mean over the tasks at the end of the run, in [0, 1]), "free" (share of weights that
            nobody owns, in [0, 1]), or a list of both.
    """
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    known = [value for value in results["val_now"] if value is not None]
    values = {"val_accuracy": sum(known) / len(known), "free": results["free"]}
    if OmegaConf.is_list(aims):
        return tuple(float(values[aim]) for aim in aims)
    return float(values[aims])


def summarize(sweep: Path) -> bool:
    """Prints what came of the jobs in the directory ``sweep``; returns whether all of them are complete."""
    folders = [folder.parent for folder in sweep.glob("*/.hydra")]
    folders.sort(key=lambda folder: (not folder.name.isdigit(), folder.name.zfill(20)))
    failed = []
    for folder in folders:
        saved = read_run(folder)
        if saved is None or not is_complete(folder, saved):
            failed.append(folder)
    say = partial(print, file=sys.stderr)
    if failed:
        say(f"{len(failed)} of {len(folders)} jobs failed or were broken off:")
        for folder in failed:
            say(f"    {folder}")
        say(f"The same command with hydra.sweep.dir={shlex.quote(str(sweep))} keeps what is complete, and goes on.")
    if len(failed) < len(folders):
        print(f"sweep directory: {sweep}; its table and figure: packnet-report {shlex.quote(str(sweep))}")  # noqa: T201
    return not failed


def _telling(words: list[str]) -> list[str]:
    """Returns the words that make a job what it is."""
    return sorted(word for word in words if _tells(key_of(word)))


def _tells(key: str) -> bool:
    # A run may go on with more tasks, but no job of a sweep may take the place of one with others.
    return key == "sequence.add" or not (is_harmless(key) or key.startswith("hydra"))


def _run(command: list[str], cwd: str, prefix: str) -> int:
    """Runs ``command`` and passes on what it says, each line with ``prefix``; signals reach it through this process."""
    process = subprocess.Popen(
        command,
        cwd=cwd,
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
