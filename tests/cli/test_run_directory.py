"""The lock on a run directory."""

import errno
import fcntl
import os

import pytest

from packnet_pl.cli.run_directory import lock
from packnet_pl.cli.usage import UsageError


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch):
    def flock(file, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(UsageError, match=r"cannot be locked \(No locks available\).* choose a hydra\.run\.dir"):
        lock(tmp_path)
