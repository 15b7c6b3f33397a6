"""Sweeps: each job is a run of its own, whatever the launcher, the sweeper and the number of processes."""

import json
import shlex
import signal
import time
from pathlib import Path

import pytest
import yaml

from tests.support import ROOT, warm
from tests.support.commands import run, run_installed

pytestmark = pytest.mark.slow

TINY = ["debug=tiny", "debug.fraction=0.02", "sequence.order=[digits,greek]"]
RATIOS = (0.5, 0.75)


def train(*words, cwd):
    return run("packnet-train", "-m", *words, cwd=cwd)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What comes of each ratio without a sweep."""
    found = {}
    for ratio in RATIOS:
        folder = tmp_path_factory.mktemp("alone") / "run"
        done = warm.run("packnet-train", *TINY, f"prune.ratio={ratio}", "hydra.run.dir=run", cwd=folder.parent)
        assert done.returncode == 0, done.stderr
        found[ratio] = warm.outcome(folder)
    return found


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A sweep over two ratios that was asked to stop in its second job, and then went on."""
    home = tmp_path_factory.mktemp("a sweep")
    words = ["-m", *TINY, "prune.ratio=0.5,0.75", "sweep.share=true", "hydra.sweep.dir='the sweep'"]
    process = warm.RealProcess("packnet-train", *words, cwd=home)
    while not (home / "the sweep" / "1" / "tasks" / "digits" / "retrain" / "last.ckpt").exists():
        assert process.running, process.stderr
        time.sleep(0.01)
    process.signal(signal.SIGTERM)
    first = process.wait()
    return home / "the sweep", first, run("packnet-train", *words, cwd=home)


def test_a_signal_reaches_the_job_and_ends_the_sweep(stopped):
    folder, first, _ = stopped
    assert first.returncode == 128 + signal.SIGTERM
    assert "[1] packnet-train: stopped by SIGTERM; what was done is saved." in first.stderr
    assert f"1 of 2 jobs failed or were broken off:\n    {folder / '1'}\n" in first.stderr
    assert f"The same command with hydra.sweep.dir={shlex.quote(str(folder))} keeps what is complete" in first.stderr
    assert "Traceback" not in first.stderr


def test_the_same_command_goes_on_where_a_sweep_stopped(stopped, alone):
    folder, first, second = stopped
    assert second.returncode == 0, second.stderr
    assert f"[0] {folder / '0'} is complete" in second.stderr
    assert "greek, retrain: 1 epoch" in second.stderr
    assert "digits, train: 1 epoch" not in second.stderr
    # The first task was trained once, and pruned twice.
    assert first.stderr.count("digits, train: 1 epoch") == 1
    assert "[1] the first task was trained by another job; this one goes on from there" in first.stderr
    for job, ratio in enumerate(RATIOS):
        warm.assert_same(folder / str(job), alone[ratio])
        assert yaml.safe_load((folder / str(job) / ".hydra" / "config.yaml").read_text())["prune"]["ratio"] == ratio
    assert sorted(path.name for path in folder.iterdir()) == ["0", "1", "jobs.jsonl", "multirun.yaml", "shared"]


def test_the_report_of_a_sweep(stopped, alone, tmp_path):
    folder = stopped[0]
    done = run("packnet-report", folder, "--output", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for ratio in RATIOS:
        error = 100 * (1 - alone[ratio]["results.json"]["accuracy"][-1][0])
        assert any(line.split()[:2] == [str(ratio), f"{error:.2f}"] for line in done.stdout.splitlines())
    assert (tmp_path / "out" / "ratios.csv").read_text().count("\n") == 1 + 4
    assert (tmp_path / "out" / "ratios.png").read_bytes().startswith(b"\x89PNG")


def test_other_settings_in_the_directory_of_a_sweep_are_refused(stopped):
    folder = stopped[0]
    before = {path: path.read_bytes() for path in folder.glob("*/results.json")}
    done = train(*TINY, "seed=1", "prune.ratio=0.5,0.75", f"hydra.sweep.dir='{folder}'", cwd=folder.parent)
    assert done.returncode == 1
    assert f"{folder / '0'} holds a run of other settings" in done.stderr
    assert "give the sweep a directory of its own" in done.stderr
    assert {path: path.read_bytes() for path in folder.glob("*/results.json")} == before


@pytest.mark.exhaustive
def test_a_failed_job_is_named_at_the_end_and_the_others_go_on(tmp_path):
    done = train(*TINY, "prune.ratio=1.5,0.5", "hydra.sweep.dir=s", cwd=tmp_path)
    assert done.returncode == 1
    assert "[0] packnet-train: prune.ratio is 1.5; allowed is a fraction in [0, 1)" in done.stderr
    assert f"1 of 2 jobs failed or were broken off:\n    {tmp_path / 's' / '0'}\n" in done.stderr
    assert json.loads((tmp_path / "s" / "1" / "results.json").read_text())["complete"]
    assert "Traceback" not in done.stderr


@pytest.mark.exhaustive
def test_jobs_side_by_side_train_the_first_task_once(tmp_path, alone):
    words = ["prune.ratio=0.5,0.75", "sweep.share=true", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    # A process that was forked would wait for joblib's workers at its end, for ever.
    done = run_installed("packnet-train", "-m", *TINY, *words, "hydra.sweep.dir=s", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("digits, train: 1 epoch") == 1
    for job, ratio in enumerate(RATIOS):
        warm.assert_same(tmp_path / "s" / str(job), alone[ratio])


@pytest.mark.exhaustive
def test_under_optuna_and_ddp_each_process_of_a_job_has_the_same_ratio(tmp_path, monkeypatch):
    monkeypatch.setenv("SPY", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    words = ["hydra/sweeper=search_ratio", "hydra.sweeper.n_trials=2", "sequence.order=[digits]", "prune.last=true"]
    words += [
        "trainer=ddp",
        "trainer.devices=2",
        "method.fit._target_=tests.support.sweep_spy.fit_and_tell",
        "hydra.sweep.dir=s",
    ]
    done = train(*TINY[:3], *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    told = [json.loads(path.read_text()) for path in tmp_path.glob("*-digits.json")]
    for job in range(2):
        mine = sorted((one["rank"], one["ratio"]) for one in told if Path(one["job"]) == tmp_path / "s" / str(job))
        assert [rank for rank, _ in mine] == [0, 1]
        assert mine[0][1] == mine[1][1]
    assert len({one["ratio"] for one in told}) == 2
    best = yaml.safe_load((tmp_path / "s" / "optimization_results.yaml").read_text())
    values = [json.loads((tmp_path / f"s/{job}/results.json").read_text()) for job in range(2)]
    assert best["best_value"] == max(one["tasks"][0]["val_accuracy"]["retrained"] for one in values)
    names = sorted(path.name for path in (tmp_path / "s").iterdir())
    assert names == ["0", "1", "jobs.jsonl", "optimization_results.yaml"]


def test_a_search_of_which_every_job_failed_names_them_without_a_traceback(tmp_path):
    words = [
        "hydra/sweeper=search_ratio",
        "hydra.sweeper.n_trials=1",
        "hydra.sweep.dir=s",
        "packed=missing.safetensors",
    ]
    done = train(*TINY, *words, cwd=tmp_path)
    assert done.returncode == 1
    assert f"1 of 1 job failed or were broken off:\n    {tmp_path / 's' / '0'}\n" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_sweep_that_cannot_be_composed_starts_nothing(tmp_path):
    done = train(*TINY, "prune.ratoi=0.5,0.75", "optim.batchsize=3", cwd=tmp_path)
    assert done.returncode == 2
    assert "there is no option prune.ratoi; did you mean prune.ratio" in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_the_place_of_the_sweeps_directory_is_said_in_one_line(tmp_path):
    (tmp_path / "s").write_text("mine")
    done = train(*TINY, "seed=0,1", "hydra.sweep.dir=s", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == f"packnet-train: [Errno 17] File exists: '{tmp_path / 's'}'\n"
    assert (tmp_path / "s").read_text() == "mine"
