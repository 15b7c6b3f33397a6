"""What a run directory says of its run, and the lock on it."""

import errno
import fcntl
import os
from pathlib import Path

import pytest
import yaml

from packnet_pl.errors import UsageError
from packnet_pl.run_directory import SavedRun, claimed, lock, read_run, write_run


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch):
    def flock(file, operation):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with pytest.raises(UsageError, match=r"cannot be locked \(No locks available\).* choose a hydra\.run\.dir"):
        lock(tmp_path)


RUN = SavedRun(["seed=1"], None, "train", "/", {"sequence": {"order": ["a"]}})


@pytest.mark.parametrize(
    "value",
    [
        1e-05,
        1e22,
        0.1,
        5e-324,
        float("inf"),
        3,
        True,
        None,
        "1e-05",
        "1",
        "null",
        "on",
        "2024-01-01",
        "${seed}",
        "vögel: 猫",
    ],
)
def test_what_was_saved_is_read_as_it_was(tmp_path, value):
    run = SavedRun(
        [str(value), "a=[b,c]"],
        "/conf",
        "mine",
        "/",
        {"sequence": {"order": ["a"]}, "optim": {"x": value, "many": [value, {"y": value}]}},
    )
    write_run(tmp_path, run)
    read = read_run(tmp_path)
    assert read == run
    assert type(read.config["optim"]["x"]) is type(value)


def test_a_damaged_file_is_said_in_one_line(tmp_path):
    for text in ("a: [", "just text", "overrides: []", "a: 1\nb: 2"):
        (tmp_path / "run.yaml").write_text(text)
        with pytest.raises(UsageError, match=r"^[^\n]*run\.yaml is damaged: [^\n]*$"):
            read_run(tmp_path)


@pytest.mark.parametrize(
    "damage",
    [
        {"overrides": 3},
        {"overrides": "seed=1"},
        {"overrides": [1]},
        {"config_dir": 3},
        {"config_name": ["x"]},
        {"cwd": None},
        {"config": None},
        {"config": {}},
        {"config": {"sequence": {"order": 3}}},
        {"config": {"sequence": {"order": [{}]}}},
    ],
)
def test_a_value_of_another_kind_is_said_in_one_line(tmp_path, damage):
    write_run(tmp_path, RUN)
    good = yaml.safe_load((tmp_path / "run.yaml").read_text())
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(good | damage))
    with pytest.raises(UsageError, match=r"^[^\n]*run\.yaml is damaged: [^\n]*$"):
        read_run(tmp_path)


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
