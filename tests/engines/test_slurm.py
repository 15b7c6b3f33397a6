"""A real SLURM on loopback: two tasks of one job train together, are requeued, and a sweep runs as jobs."""

import json
import re
import subprocess
import time

import pytest

from tests.support import SCRIPTS, warm
from tests.support.commands import last_line

pytestmark = [pytest.mark.slow, pytest.mark.soak]

WORDS = ["debug=tiny", "debug.max_epochs=3", "optim.batch_size=16", "logger=none", "sequence.order=[digits,greek]"]
DDP = ["trainer=ddp", "trainer.devices=2", "checkpoint.every_n_steps=5"]

# One line for the first start and each further one. SLURM sends the signal by itself before the time limit.
SCRIPT = """\
#!/bin/bash
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=2
#SBATCH --time=30
#SBATCH --signal=USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=log

srun --kill-on-bad-exit=1 {train} {words} hydra.run.dir=run resume=auto
code=$?
if [ $code -eq 138 ]; then scontrol requeue "$SLURM_JOB_ID"; fi   # stopped by SIGUSR1, and saved
exit $code
"""


def command(*words, slurm, cwd, timeout=600):
    return subprocess.run(
        list(map(str, words)), env=slurm, cwd=cwd, capture_output=True, text=True, timeout=timeout, check=False
    )


def srun(*words, slurm, cwd):
    step = ["srun", "--nodes=1", "--ntasks-per-node=2", "--kill-on-bad-exit=1", SCRIPTS / "packnet-train"]
    return command(*step, *WORDS, *DDP, *words, slurm=slurm, cwd=cwd)


@pytest.fixture(scope="module")
def uninterrupted(slurm, tmp_path_factory):
    """Two tasks of srun; the run directory has a time stamp in its name, and is one all the same."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    done = srun(slurm=slurm, cwd=folder)
    assert done.returncode == 0, done.stderr
    (run,) = folder.glob("runs/*/*")
    assert last_line(done.stdout) == f"run directory: {run}"
    assert done.stderr.count("digits, train: 3 epochs") == 1, done.stderr
    return warm.outcome(run)


def test_a_job_that_is_requeued_twice_ends_like_one_that_was_not(slurm, tmp_path, uninterrupted):
    script, run = tmp_path / "job.sh", tmp_path / "run"
    words = " ".join(f"'{word}'" for word in [*WORDS, *DDP])
    script.write_text(SCRIPT.format(train=SCRIPTS / "packnet-train", words=words))
    job = command("sbatch", "--parsable", script, slurm=slurm, cwd=tmp_path).stdout.strip()
    said = lambda: (tmp_path / "log").read_text() if (tmp_path / "log").exists() else ""  # noqa: E731

    wait_for((run / "tasks/digits/retrain/last.ckpt").exists, said)
    # What SLURM sends before the time limit: the script requeues the job.
    assert command("scancel", "--signal=USR1", job, slurm=slurm, cwd=tmp_path).returncode == 0
    wait_for((run / "tasks/greek/train/last.ckpt").exists, said)
    # What an operator does, or preemption: SLURM sends SIGTERM and requeues it by itself.
    assert command("scontrol", "requeue", job, slurm=slurm, cwd=tmp_path).returncode == 0
    wait_for(lambda: "run directory:" in said(), said)
    wait_for(lambda: "JobState=COMPLETED" in show(job, slurm, tmp_path), said)

    assert re.search(r"Restarts=2\b", show(job, slurm, tmp_path))
    log = said()
    assert "packnet-train: stopped by SIGUSR1; what was done is saved. Go on: packnet-resume " in log
    assert "packnet-train: stopped by SIGTERM; what was done is saved. Go on: packnet-resume " in log
    assert "Traceback" not in log
    warm.assert_same(run, uninterrupted)


def test_a_mistake_ends_all_tasks_with_one_line(slurm, tmp_path):
    done = srun("arch.hidden=0", slurm=slurm, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("packnet-train: arch: vgg_small with") == 1, done.stderr
    assert not (tmp_path / "runs").exists()


def test_processes_that_do_not_fit_the_trainer_are_refused(slurm, tmp_path):
    done = srun("trainer.devices=1", slurm=slurm, cwd=tmp_path)
    assert done.returncode == 2
    assert "trainer.devices=1: You set `devices=1` in Lightning, but the number of tasks per node" in done.stderr
    done = command("srun", "--ntasks=2", SCRIPTS / "packnet-train", *WORDS, *DDP, slurm=slurm, cwd=tmp_path)
    assert done.returncode == 2
    assert "give it --ntasks-per-node=N and --nodes=M instead of --ntasks" in done.stderr


def test_a_sweep_through_submitit_is_one_directory_with_a_folder_per_job(slurm, tmp_path):
    """Each job is one task for SLURM, and starts its two processes itself."""
    launcher = ["hydra/launcher=submitit_slurm", "hydra.launcher.partition=loopback", "hydra.launcher.timeout_min=20"]
    launcher += ["hydra.launcher.mem_gb=null", "hydra.sweep.dir=sweep"]
    launcher += ["hydra.launcher.cpus_per_task=2"]
    words = ["-m", *WORDS, *DDP, *launcher, "prune.ratio=0.5,0.75"]
    done = command(SCRIPTS / "packnet-train", *words, slurm=slurm, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = {path.parent.name: json.loads(path.read_text()) for path in (tmp_path / "sweep").glob("*/results.json")}
    assert {name: results["tasks"][0]["prune_ratio"] for name, results in found.items()} == {"0": 0.5, "1": 0.75}
    assert all(results["complete"] for results in found.values())


def wait_for(event, said, timeout=600):
    ends = time.monotonic() + timeout
    while not event():
        assert time.monotonic() < ends, f"what was waited for did not come: {said()}"
        time.sleep(0.02)


def show(job, slurm, cwd):
    return command("scontrol", "show", "job", job, slurm=slurm, cwd=cwd).stdout
