"""Which process is the main one: what the launchers really set, written down."""

import os

import pytest

from packnet_pl.errors import UsageError
from packnet_pl.ranks import Rank, rank_of, this_process
from packnet_pl.run.process_environment import environment_of

# As torchrun 2.15 and SLURM 22.05 set them; the tests in tests/engines hold these against the real ones.
TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "MASTER_ADDR": "host", "MASTER_PORT": "29500"}
STEP = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "4"}
BATCH = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
BY_HAND = {"MASTER_ADDR": "host", "MASTER_PORT": "29500"}
PARENT = 7
CHILD = {"PACKNET_PL_LAUNCHER": str(PARENT)}


def torchrun(rank, local, count):
    return {**TORCHRUN, "RANK": str(rank), "LOCAL_RANK": str(local), "WORLD_SIZE": str(count)}


def step(number, local):
    return {**STEP, "SLURM_PROCID": str(number), "SLURM_LOCALID": str(local)}


@pytest.mark.parametrize(
    ("environment", "expected", "main", "meets"),
    [
        pytest.param({}, Rank("user", 0, 1, 0), True, False, id="alone"),
        pytest.param({"LOCAL_RANK": "0", "NODE_RANK": "0"}, Rank("user", 0, 1, 0), True, False, id="local rank 0"),
        pytest.param({**CHILD, "LOCAL_RANK": "1"}, Rank("lightning", 1, 1, 1), False, False, id="started by Lightning"),
        pytest.param(torchrun(0, 0, 4), Rank("torchrun", 0, 4, 0), True, True, id="torchrun, first machine"),
        pytest.param(torchrun(2, 0, 4), Rank("torchrun", 2, 4, 0), False, True, id="torchrun, second machine"),
        pytest.param(torchrun(3, 1, 4), Rank("torchrun", 3, 4, 1), False, True, id="torchrun, last"),
        pytest.param(torchrun(0, 0, 1), Rank("torchrun", 0, 1, 0), True, False, id="torchrun with one process"),
        pytest.param(step(0, 0), Rank("srun", 0, 4, 0), True, True, id="srun, first machine"),
        pytest.param(step(2, 0), Rank("srun", 2, 4, 0), False, True, id="srun, second machine"),
        pytest.param({**step(1, 0), **torchrun(2, 0, 4)}, Rank("torchrun", 2, 4, 0), False, True, id="both"),
        pytest.param({**step(0, 0), "SLURM_NTASKS": "1"}, Rank("user", 0, 1, 0), True, False, id="srun of one"),
        pytest.param(
            {**CHILD, **step(0, 0), "SLURM_NTASKS": "1", "LOCAL_RANK": "1"},
            Rank("lightning", 1, 1, 1),
            False,
            False,
            id="started by Lightning in an srun of one",
        ),
        pytest.param(BATCH, Rank("user", 0, 1, 0), True, False, id="a batch script without srun"),
        pytest.param({**BY_HAND, "NODE_RANK": "0"}, Rank("node", 0, None, 0), True, True, id="by hand, first"),
        pytest.param({**BY_HAND, "NODE_RANK": "1"}, Rank("node", 1, None, 0), False, True, id="by hand, second"),
        pytest.param(
            {**CHILD, **BY_HAND, "NODE_RANK": "1", "LOCAL_RANK": "2"},
            Rank("lightning", 2, 1, 2),
            False,
            False,
            id="by hand, second, started by Lightning",
        ),
        *(
            pytest.param(left_over, Rank("user", 0, 1, 0), True, False, id=f"left over: {', '.join(left_over)}")
            for left_over in (
                {"LOCAL_RANK": "0"},
                {"RANK": "0"},
                {"WORLD_SIZE": "2"},
                {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"},
                {"NODE_RANK": "0"},
                {"GROUP_RANK": "0", "WORLD_SIZE": "4"},
                {"MASTER_ADDR": "elsewhere"},
                {**TORCHRUN, "LOCAL_RANK": "0"},
                {"TORCHELASTIC_RUN_ID": "none", "RANK": "0", "WORLD_SIZE": "2"},
                {"OMPI_COMM_WORLD_SIZE": "1", "OMPI_COMM_WORLD_RANK": "0"},
                {**STEP, "SLURM_STEP_NUM_TASKS": "1", "SLURM_PROCID": "0"},
                {**step(0, 0), "SLURM_JOB_NAME": "bash"},
                {**step(0, 0), "SLURM_JOB_NAME": "interactive", "PMI_SIZE": "4"},
                {**step(0, 0), "SLURM_STEP_NUM_TASKS": "4", "SLURM_JOB_NAME": "/bin/zsh", "SLURM_PTY_PORT": "1"},
            )
        ),
        pytest.param(
            {**step(1, 1), "SLURM_STEP_NUM_TASKS": "2", "SLURM_JOB_NAME": "interactive"},
            Rank("srun", 1, 2, 1),
            False,
            True,
            id="srun of two in the shell that salloc gives",
        ),
        pytest.param(
            {**BY_HAND, "RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1"},
            Rank("hand", 1, 2, 1),
            False,
            True,
            id="torch's variables by hand",
        ),
    ],
)
def test_the_environment_tells(environment, expected, main, meets):
    found = rank_of(environment, PARENT)
    assert (found, found.is_main, found.meets_others) == (expected, main, meets)


@pytest.mark.parametrize("environment_of", [lambda n: torchrun(n, n % 2, 4), lambda n: step(n, n % 2)])
def test_one_process_of_two_machines_is_the_main_one(environment_of):
    assert [rank_of(environment_of(number)).is_main for number in range(4)] == [True, False, False, False]


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (
            {"LOCAL_RANK": "1"},
            "LOCAL_RANK=1 is set in the environment, as for one of several processes, but not RANK, ",
        ),
        ({"PACKNET_PL_LAUNCHER": "8", "LOCAL_RANK": "1"}, "LOCAL_RANK=1 is set"),
        (
            {"RANK": "1", "WORLD_SIZE": "2"},
            "RANK=1 is set in the environment, as for one of several processes, but not",
        ),
        ({"NODE_RANK": "1"}, "but not MASTER_ADDR, MASTER_PORT; unset NODE_RANK to start this one alone, or set all"),
        ({"LOCAL_RANK": "x"}, "LOCAL_RANK=x is set in the environment, and is no number"),
        (
            {**BY_HAND, "RANK": "2", "WORLD_SIZE": "2", "LOCAL_RANK": "0"},
            "RANK=2 is set in the environment, but WORLD_",
        ),
        ({**STEP, "SLURM_LOCALID": "0"}, "SLURM_NTASKS=4 is set in the environment, as by srun, but not SLURM_PROCID"),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, "mpirun started 2 processes"),
        ({"PMI_SIZE": "2", "PMI_RANK": "0"}, "mpiexec started 2 processes"),
    ],
)
def test_what_cannot_be_told_is_refused_by_the_name_of_the_variable(environment, message):
    with pytest.raises(UsageError) as caught:
        rank_of(environment, PARENT)
    assert message in str(caught.value)


def test_lightning_finds_what_was_decided(monkeypatch):
    """What is left over would have it wait for others, somewhere else."""
    for name in ("LOCAL_RANK", "RANK", "NODE_RANK", "GROUP_RANK"):
        monkeypatch.setenv(name, "0")
    for name, value in {"MASTER_ADDR": "192.0.2.1", "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "x"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PACKNET_PL_LAUNCHER", "")
    this_process.cache_clear()
    lightning = environment_of(this_process())
    assert (lightning.creates_processes_externally, lightning.main_address) == (False, "127.0.0.1")
    assert (lightning.local_rank(), lightning.node_rank()) == (0, 0)
    assert not {"RANK", "WORLD_SIZE", "TORCHELASTIC_RUN_ID"} & set(os.environ)
