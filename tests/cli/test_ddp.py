"""Two processes, as a user starts them: equal to the bit, counted exactly, and none left whatever happens."""

import json
import signal

import pytest
import torch

from packnet_pl.confusion import read_confusion
from packnet_pl.core.bits import same_bits
from packnet_pl.filter_history import read_filters
from tests.support import ROOT, SCRIPTS
from tests.support.cases import breadth
from tests.support.commands import last_line, run
from tests.support.process_families import Family

pytestmark = pytest.mark.slow

# 52 and 39 images to test, in batches of 16: the last one is not full, and one process has a batch more.
WORDS = ["debug=tiny", "debug.fraction=0.15", "optim.batch_size=16", "logger=none", "sequence.order=[digits,greek]"]
WORDS += ["trainer=ddp", "trainer.devices=2", "method.fit._target_=tests.support.ddp_fit.fit"]
LONG = ["debug.max_epochs=500", "sequence.tasks.digits.train.epochs=500"]
TORCHRUN = ["torchrun", "--standalone", "--nproc-per-node", "2"]


def start(folder, *words, launcher=(), **environment):
    (folder / "seen").mkdir(exist_ok=True)
    program = [*launcher, SCRIPTS / "packnet-train"] if launcher else ["packnet-train"]
    found = {"SEEN": folder / "seen", "PYTHONPATH": ROOT, **environment}
    return Family(*program, *WORDS, *words, cwd=folder, **found)


def assert_equal_ranks(folder):
    """What each process saw and has in the end is the same, bit for bit."""
    for task in ("digits", "greek"):
        one, other = (torch.load(folder / f"seen/{task}.{rank}.pt", weights_only=True) for rank in range(2))
        assert one["weights"].keys() == other["weights"].keys()
        assert all(same_bits(value, other["weights"][name]) for name, value in one["weights"].items())
        assert one["owners"].keys() == other["owners"].keys()
        assert all(torch.equal(owner, other["owners"][name]) for name, owner in one["owners"].items())
        assert all(one[key] == other[key] for key in ("prune_ratio", "settings", "batch"))
        assert [world_size for world_size, *_ in one["settings"]] == [2, 2]


def assert_exact_accuracy(folder):
    """One process that asks the packed file again gets exactly the counts of the two that shared the test set."""
    done = run("packnet-eval", folder, cwd=folder.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert results["complete"]
    assert results["outputs_unchanged"] == [True, True]
    for task, accuracy in zip(results["tasks"], results["accuracy"][-1], strict=True):
        confusion = read_confusion(folder / f"tasks/{task['name']}/confusion.json")
        assert (sum(confusion.images), confusion.accuracy) == (task["test_size"], accuracy)
        assert len(read_filters(folder / f"tasks/{task['name']}/filters.json").snapshots) == 3
    # Neither test set divides evenly: processes would fill up, and count some images twice.
    assert all(task["test_size"] % 32 for task in results["tasks"])


def test_a_run_of_two_processes(tmp_path):
    """Options stand behind overrides, the run directory has a time stamp in its name, the environment has a past."""
    left_over = {"LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "2", "MASTER_ADDR": "192.0.2.1", "NODE_RANK": "0"}
    left_over |= {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_JOB_NAME": "bash"}
    family = start(tmp_path, "--config-name", "train", "prune.ratio=0.5", **left_over)
    assert family.wait() == 0, family.stderr
    assert family.left() == {}
    (folder,) = tmp_path.glob("runs/*/*")
    assert last_line(family.stdout) == f"run directory: {folder}"
    assert {"run.yaml", "results.json", ".hydra"} <= {path.name for path in folder.iterdir()}
    assert family.stderr.count("digits, train: 1 epoch") == 1, family.stderr
    assert_equal_ranks(tmp_path)
    assert_exact_accuracy(folder)


@pytest.mark.exhaustive
def test_torchrun_makes_the_same_run_in_one_directory(tmp_path):
    family = start(tmp_path, launcher=TORCHRUN)
    assert family.wait() == 0, family.stderr
    assert family.left() == {}
    (folder,) = tmp_path.glob("runs/*/*")
    assert last_line(family.stdout) == f"run directory: {folder}"
    assert family.stderr.count("digits, train: 1 epoch") == 1, family.stderr
    assert_equal_ranks(tmp_path)
    assert_exact_accuracy(folder)
    # What was refused leaves nothing behind, and nobody waits.
    before = sorted(path.name for path in folder.iterdir())
    again = start(tmp_path, f"hydra.run.dir={folder}", launcher=TORCHRUN)
    assert again.wait(120) == 1
    assert again.left() == {}
    assert again.stderr.count("holds a run already; choose another hydra.run.dir") == 1, again.stderr
    assert sorted(path.name for path in folder.iterdir()) == before


@pytest.mark.parametrize(
    "launcher", [[], pytest.param(TORCHRUN, marks=pytest.mark.soak)], ids=["lightning", "torchrun"]
)
@pytest.mark.parametrize("rank", breadth([0, 1], 1))
def test_nothing_is_left_when_one_process_is_killed(tmp_path, rank, launcher):
    family = start(tmp_path, *LONG, "hydra.run.dir=run", launcher=launcher)
    family.wait_for((tmp_path / "run/tasks/digits/train/last.ckpt").exists)
    family.signal(signal.SIGKILL, family.rank(rank))
    assert family.wait(60) != 0
    assert family.left(within=30) == {}


@pytest.mark.parametrize(
    "launcher", [[], pytest.param(TORCHRUN, marks=pytest.mark.soak)], ids=["lightning", "torchrun"]
)
@pytest.mark.exhaustive
def test_nothing_is_left_after_ctrl_c(tmp_path, launcher):
    family = start(tmp_path, *LONG, "hydra.run.dir=run", launcher=launcher)
    family.wait_for((tmp_path / "run/tasks/digits/train/last.ckpt").exists)
    family.signal(signal.SIGINT)
    assert family.wait(60) != 0
    assert family.left(within=30) == {}


@pytest.mark.parametrize("launcher", [[], TORCHRUN], ids=["lightning", "torchrun"])
@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.soak
def test_nothing_is_left_when_one_process_fails(tmp_path, rank, launcher):
    family = start(tmp_path, "hydra.run.dir=run", launcher=launcher, FAIL_IN=f"digits.{rank}")
    assert family.wait(120) != 0
    assert "RuntimeError: this process fails, as it was told to" in family.stderr
    assert family.left(within=30) == {}
    assert not (tmp_path / "run/results.json").exists()


@pytest.mark.soak
def test_torchrun_passes_on_a_request_to_stop(tmp_path):
    family = start(tmp_path, *LONG, "hydra.run.dir=run", launcher=TORCHRUN)
    family.wait_for((tmp_path / "run/tasks/digits/train/last.ckpt").exists)
    family.signal(signal.SIGTERM, family.pid)
    assert family.wait(60) != 0
    assert family.stderr.count("packnet-train: stopped by SIGTERM; what was done is saved. Go on: ") == 1
    assert family.left(within=30) == {}


@pytest.mark.soak
def test_nothing_is_left_when_torchrun_itself_is_killed(tmp_path):
    family = start(tmp_path, *LONG, "hydra.run.dir=run", launcher=TORCHRUN)
    family.wait_for((tmp_path / "run/tasks/digits/train/last.ckpt").exists)
    family.signal(signal.SIGKILL, family.pid)
    assert family.wait(60) != 0
    assert family.left(within=30) == {}


@pytest.mark.parametrize(
    ("words", "launcher", "message"),
    [
        (["optim.batch_size=15"], [], "optim.batch_size is 15, for a whole step; with 2 processes (trainer.devices"),
        pytest.param(
            ["trainer.sync_batchnorm=true"],
            [],
            "trainer.sync_batchnorm is true, but torch synchronizes batch-norm on GPU",
            marks=pytest.mark.exhaustive,
        ),
        pytest.param(
            ["trainer.num_nodes=2"],
            [],
            "trainer.num_nodes is 2, but this process was started alone: start it with",
            marks=pytest.mark.exhaustive,
        ),
        (["resume=maybe"], [], "resume is 'maybe'; allowed are true, false, and auto"),
    ],
)
def test_what_cannot_run_is_refused_in_one_line(tmp_path, words, launcher, message):
    family = start(tmp_path, *words, launcher=launcher)
    assert family.wait(120) == 2
    assert len(family.stderr.splitlines()) == 1
    assert message in family.stderr
    assert not (tmp_path / "runs").exists()
