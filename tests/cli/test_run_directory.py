"""The lock on a run directory."""

import errno
import fcntl
import os
from pathlib import Path

import pytest

from packnet_pl.configuration.run_file import SavedRun, claimed, lock, read_run, write_run
from packnet_pl.errors import UsageError


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch):
    def flock(file, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(UsageError, match=r"cannot be locked \(No locks available\).* choose a hydra\.run\.dir"):
        lock(tmp_path)


RUN = SavedRun(["seed=1"], None, "train", "/", {})


def claim(folder):
    with claimed(folder, RUN):
        pass


def test_a_directory_that_cannot_be_written_is_said(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"file/run cannot be written \(Not a directory\): .* another hydra\.run\.dir"):
        claim(tmp_path / "file" / "run")
    with pytest.raises(UsageError, match=r"file cannot be written \(File exists\)"):
        claim(tmp_path / "file")
    with pytest.raises(UsageError, match=r"^/proc/run cannot be written"):  # also for root
        claim(Path("/proc/run"))


def test_a_run_in_a_directory_that_became_read_only_is_said_and_stays(tmp_path, monkeypatch):
    """Root may write everywhere, so the file system is made to refuse."""
    write_run(tmp_path, RUN)

    def refuse(self, *_, **__):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(UsageError, match=r"cannot be written \(Read-only file system\): make it writable, or"):
        claim(tmp_path)
    monkeypatch.undo()
    assert read_run(tmp_path) == RUN
