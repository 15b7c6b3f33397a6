"""Records the jobs of a sweep as they are launched: a line for each begin and end, in the sweep's directory.

Where a job's folder lies is up to the user (``hydra.sweep.subdir``), so that no pattern of names finds all of them.
"""

import fcntl
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

__all__ = ["Job", "append_job", "job_of", "jobs_since", "size_of_jobs"]

_NAME = "jobs.jsonl"


@dataclass(frozen=True)
class Job:
    """The record of a job.

    Attributes:
        number: Of the job in its sweep, from 0.
        folder: Its directory, absolute.
        overrides: What makes it what it is.
        state: "begun" (running, or broken off), "complete" or "failed".
    """

    number: int
    folder: Path
    overrides: tuple[str, ...]
    state: Literal["begun", "complete", "failed"]


def append_job(sweep: Path, job: Job) -> Job | None:
    """Adds a line about a job, and returns the last record of its folder before; None if there was none.

    Jobs do this side by side, also on several machines: the file is locked meanwhile.

    Args:
        sweep: The sweep's directory.
        job: The job as it is now.

    Raises:
        ValueError: If the file is damaged.
    """
    sweep.mkdir(parents=True, exist_ok=True)
    line = {
        "job": job.number,
        "folder": os.path.relpath(job.folder, sweep),
        "state": job.state,
        "overrides": job.overrides,
    }
    with (sweep / _NAME).open("a+b") as file:
        with suppress(OSError):  # a file system without locks: the run itself refuses it, in one line
            fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        before = [known for known in _read(sweep, file) if known.folder == job.folder]
        file.write(_after_broken_line(file) + json.dumps(line).encode("ascii") + b"\n")
    return before[-1] if before else None


def job_of(folder: Path) -> tuple[Path, Job] | None:
    """Returns the sweep and the job that has a run directory, or None if it is no job of a sweep.

    Args:
        folder: The run directory, absolute; it may lie some folders deep in that of its sweep.
    """
    for sweep in folder.parents[:3]:
        with suppress(ValueError, OSError):
            for job in reversed(jobs_since(sweep)):
                if job.folder == folder:
                    return sweep, job
    return None


def size_of_jobs(sweep: Path) -> int:
    """Returns where the next line of the sweep's file will begin, in bytes."""
    path = sweep / _NAME
    return path.stat().st_size if path.exists() else 0


def jobs_since(sweep: Path, begin: int = 0) -> list[Job]:
    """Returns the last record of each job, in the order of their first lines.

    Args:
        sweep: The sweep's directory.
        begin: From :func:`size_of_jobs`: lines before it are left out.

    Raises:
        ValueError: If the file is damaged.
    """
    if not (sweep / _NAME).exists():
        return []
    with (sweep / _NAME).open("rb") as file:
        file.seek(begin)
        return list({(job.number, job.folder): job for job in _read(sweep, file)}.values())


def _read(sweep: Path, file: IO[bytes]) -> list[Job]:
    found = []
    for line in file:
        if not line.endswith(b"}\n"):
            continue  # the process was killed, or the disk full, while it was written
        try:
            known = json.loads(line)
            folder = Path(os.path.normpath(sweep.absolute() / known["folder"]))
            found.append(Job(int(known["job"]), folder, tuple(map(str, known["overrides"])), known["state"]))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{sweep / _NAME} is damaged: {line.decode(errors='replace').strip()[:80]!r}") from error
    return found


def _after_broken_line(file: IO[bytes]) -> bytes:
    end = file.seek(0, os.SEEK_END)
    if end == 0:
        return b""
    file.seek(end - 1)
    return b"" if file.read(1) == b"\n" else b"\n"
