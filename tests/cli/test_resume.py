"""A run is killed, again and again, and resumed: what it leaves is what an uninterrupted one leaves, bit for bit."""

import random
import shutil
import signal
import sys

import pytest
import torch

from tests.support import warm
from tests.support.photographs import everything_random

pytestmark = pytest.mark.slow

TINY = ["debug=tiny", "debug.fraction=0.05", "debug.max_epochs=2", "optim.batch_size=16"]
TINY += ["sequence.order=[latin,greek]"]


def trained(folder, *words):
    """Runs to the end without interruption, and returns the outcome and how long it took."""
    process = warm.Process("packnet-train", *words, f"hydra.run.dir={folder.name}", cwd=folder.parent)
    begun = process.begun
    done = process.wait()
    assert done.returncode == 0, done.stderr
    return warm.outcome(folder), warm.time.monotonic() - begun


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return trained(tmp_path_factory.mktemp("reference") / "plain", *TINY)


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """The words, and what comes of them without interruption."""
    folder = tmp_path_factory.mktemp("reference")
    words = everything_random(folder)
    return words, *trained(folder / "everything", *words)


def temporary(folder, pattern, name):
    """The temporary file is there for a moment only: what it becomes will do as well."""
    return lambda process: (folder / name).exists() or any(folder.glob(pattern))


def file(folder, name):
    return lambda process: (folder / name).exists()


def line(text, folder, name):
    """Said after what was waited for; a kill that came late may have let the run get past it, to the file ``name``."""
    return lambda process: text in process.stderr or (folder / name).exists()


def instants(folder):
    """What to wait for before each kill: a whole run, in order."""
    return [
        ("the run directory is claimed", file(folder, "run.yaml")),
        (
            "the first checkpoint is being written",
            temporary(folder, "tasks/latin/train/.last.*.ckpt", "tasks/latin/train/last.ckpt"),
        ),
        ("one epoch is trained", file(folder, "tasks/latin/train/last.ckpt")),
        (
            "all epochs are trained, and the task is pruned",
            line("latin, train: 2 epochs", folder, "tasks/latin/retrain/last.ckpt"),
        ),
        (
            "a checkpoint is being written while retraining",
            temporary(folder, "tasks/latin/retrain/.last.*.ckpt", "tasks/latin/retrain/last.ckpt"),
        ),
        ("one epoch is retrained", file(folder, "tasks/latin/retrain/last.ckpt")),
        ("the task is frozen and evaluated", line("latin, retrain: 2 epochs", folder, "packed.safetensors")),
        ("the packed file is being written", temporary(folder, ".packed.*.safetensors", "packed.safetensors")),
        ("the second task's first epoch is trained", file(folder, "tasks/greek/train/last.ckpt")),
        ("it is retrained", file(folder, "tasks/greek/retrain/last.ckpt")),
        ("it is evaluated", line("greek, retrain: 2 epochs", folder, "tasks/greek/finished.json")),
        ("what was measured is written", file(folder, "tasks/greek/finished.json")),
        ("results.json is being written", temporary(folder, ".results.*.json", "results.json")),
    ]


def resumed(folder, *words):
    done = warm.run("packnet-resume", folder, *words, cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    return done


def kill_all_along(folder, words, events, delays):
    """Kills one run after each event in turn; returns the number of kills."""
    kills = 0
    process = warm.Process("packnet-train", *words, f"hydra.run.dir={folder.name}", cwd=folder.parent)
    for what, event in events:
        hit = warm.kill_after(process, lambda event=event, process=process: event(process), next(delays))
        kills += hit
        sys.stdout.write(f"{'killed' if hit else 'ended'}: {what}\n")
        process = warm.Process("packnet-resume", folder, cwd=folder.parent)
    done = process.wait()
    assert done.returncode == 0, done.stderr
    return kills


def test_killed_at_every_instant_that_can_be_told_from_outside(tmp_path, plain):
    reference, seconds = plain
    events = instants(tmp_path / "run")
    kills = kill_all_along(tmp_path / "run", TINY, events, warm.delays(0, seconds / 200))
    warm.assert_same(tmp_path / "run", reference)
    assert kills >= len(events) - 1


@pytest.mark.exhaustive
def test_killed_at_random_with_everything_that_draws_random_numbers(tmp_path, everything):
    words, reference, seconds = everything
    folder, rng, kills = tmp_path / "run", random.Random(1), 0
    words = [*words, "optim.num_workers=2", "checkpoint.every_n_steps=2"]
    process = warm.Process("packnet-train", *words, "hydra.run.dir=run", cwd=tmp_path)
    kills += warm.kill_after(process, (folder / "tasks/cats/train/last.ckpt").exists)
    # A resumed run has at most the rest to do: what comes after the first few kills may find it at its end.
    for _ in range(4):
        process = warm.Process("packnet-resume", folder, cwd=tmp_path)
        kills += warm.kill_after(process, lambda: True, rng.uniform(0.1, 0.6) * seconds)
    resumed(folder)
    warm.assert_same(folder, reference)
    assert kills >= 1


@pytest.mark.parametrize(
    ("signum", "moment"),
    [
        (signal.SIGTERM, "tasks/cats/train/last.ckpt"),
        pytest.param(signal.SIGUSR1, "tasks/cats/finished.json", marks=pytest.mark.exhaustive),
    ],
)
def test_asked_to_stop_it_saves_and_leaves(tmp_path, everything, signum, moment):
    words, reference, _ = everything
    folder = tmp_path / "run"
    process = warm.Process("packnet-train", *words, "hydra.run.dir=run", cwd=tmp_path)
    while not (folder / moment).exists():
        assert process.running, process.stderr
    process.signal(signum)
    done = process.wait()
    assert done.returncode == 128 + signum, done.stderr
    said = f"packnet-train: stopped by {signum.name}; what was done is saved. Go on: packnet-resume {folder}\n"
    assert done.stderr.endswith(said)
    resumed(folder)
    warm.assert_same(folder, reference)


def test_without_further_checkpoints_at_most_one_epoch_is_lost(tmp_path, plain):
    folder = tmp_path / "run"
    process = warm.Process("packnet-train", *TINY, "hydra.run.dir=run", cwd=tmp_path)
    assert warm.kill_after(process, (folder / "tasks/latin/train/last.ckpt").exists)
    done = resumed(folder)
    assert f"latin goes on from {folder / 'tasks/latin/train/last.ckpt'}" in done.stderr
    warm.assert_same(folder, plain[0])


class Bomb:
    def __reduce__(self):
        return (open, ("exploded", "w"))


def test_checkpoints_that_cannot_be_read_are_named_and_passed_over(tmp_path, plain):
    folder = tmp_path / "run"
    process = warm.Process("packnet-train", *TINY, "hydra.run.dir=run", cwd=tmp_path)
    assert warm.kill_after(process, (folder / "tasks/greek/train/last.ckpt").exists)
    torch.save(Bomb(), folder / "tasks/greek/train/last.ckpt")
    done = resumed(folder)
    assert f"{folder / 'tasks/greek/train/last.ckpt'} is damaged or something else" in done.stderr
    assert "it is passed over" in done.stderr
    assert not (tmp_path / "exploded").exists()
    warm.assert_same(folder, plain[0])


@pytest.mark.exhaustive
def test_a_signal_before_the_run_listens_is_answered_too(tmp_path):
    process = warm.RealProcess("packnet-train", *TINY, "hydra.run.dir=run", cwd=tmp_path)
    while not (tmp_path / "run" / "run.yaml").exists():
        assert process.running, process.stderr
    process.signal(signal.SIGTERM)
    done = process.wait()
    assert done.returncode == 128 + signal.SIGTERM
    assert done.stderr.endswith("packnet-train: stopped by SIGTERM before training began\n")
    assert "Traceback" not in done.stderr


def test_what_was_measured_is_put_together_again(tmp_path, plain):
    """A kill between the last files leaves results.json behind; a damaged disk takes the task's own file."""
    reference, _ = plain
    folder = tmp_path / "run"
    trained(folder, *TINY)
    (folder / "results.json").unlink()
    shutil.rmtree(folder / "report")
    (folder / "tasks/latin/finished.json").write_text("{")
    done = resumed(folder)
    assert f"{folder / 'tasks/latin/finished.json'} cannot be read" in done.stderr
    assert "what the packed file tells of it is used" in done.stderr
    warm.assert_same(folder, reference)
