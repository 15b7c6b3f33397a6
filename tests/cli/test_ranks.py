"""Which process is the main one: what the launchers really set, written down."""

import pytest

from packnet_pl.cli.ranks import Rank, rank_of

# As torchrun 2.15 and SLURM 22.05 set them; the tests in tests/engines hold these against the real ones.
TORCHRUN = {"TORCHELASTIC_RUN_ID": "none", "MASTER_ADDR": "host", "MASTER_PORT": "29500"}
STEP = {"SLURM_JOB_ID": "7", "SLURM_STEP_ID": "0", "SLURM_NTASKS": "4"}
BATCH = {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "0", "SLURM_LOCALID": "0"}
BY_HAND = {"MASTER_ADDR": "host", "MASTER_PORT": "29500"}


def torchrun(rank, local, count):
    return {**TORCHRUN, "RANK": str(rank), "LOCAL_RANK": str(local), "WORLD_SIZE": str(count)}


def step(number, local):
    return {**STEP, "SLURM_PROCID": str(number), "SLURM_LOCALID": str(local)}


@pytest.mark.parametrize(
    ("environment", "expected", "main", "meets"),
    [
        pytest.param({}, Rank("user", 0, 1, 0), True, False, id="alone"),
        pytest.param({"LOCAL_RANK": "0", "NODE_RANK": "0"}, Rank("user", 0, 1, 0), True, False, id="local rank 0"),
        pytest.param({"LOCAL_RANK": "1"}, Rank("lightning", 1, 1, 1), False, False, id="started by Lightning"),
        pytest.param(torchrun(0, 0, 4), Rank("torchrun", 0, 4, 0), True, True, id="torchrun, first machine"),
        pytest.param(torchrun(2, 0, 4), Rank("torchrun", 2, 4, 0), False, True, id="torchrun, second machine"),
        pytest.param(torchrun(3, 1, 4), Rank("torchrun", 3, 4, 1), False, True, id="torchrun, last"),
        pytest.param(torchrun(0, 0, 1), Rank("torchrun", 0, 1, 0), True, False, id="torchrun with one process"),
        pytest.param(step(0, 0), Rank("srun", 0, 4, 0), True, True, id="srun, first machine"),
        pytest.param(step(2, 0), Rank("srun", 2, 4, 0), False, True, id="srun, second machine"),
        pytest.param({**step(1, 0), **torchrun(2, 0, 4)}, Rank("torchrun", 2, 4, 0), False, True, id="both"),
        pytest.param({**step(0, 0), "SLURM_NTASKS": "1"}, Rank("user", 0, 1, 0), True, False, id="srun of one"),
        pytest.param(
            {**step(0, 0), "SLURM_NTASKS": "1", "LOCAL_RANK": "1"},
            Rank("lightning", 1, 1, 1),
            False,
            False,
            id="started by Lightning in an srun of one",
        ),
        pytest.param(BATCH, Rank("user", 0, 1, 0), True, False, id="a batch script without srun"),
        pytest.param({**BY_HAND, "NODE_RANK": "0"}, Rank("node", 0, None, 0), True, True, id="by hand, first"),
        pytest.param({**BY_HAND, "NODE_RANK": "1"}, Rank("node", 1, None, 0), False, True, id="by hand, second"),
        pytest.param(
            {**BY_HAND, "NODE_RANK": "1", "LOCAL_RANK": "2"},
            Rank("lightning", 2, 1, 2),
            False,
            False,
            id="by hand, second, started by Lightning",
        ),
    ],
)
def test_the_environment_tells(environment, expected, main, meets):
    found = rank_of(environment)
    assert (found, found.is_main, found.meets_others) == (expected, main, meets)


@pytest.mark.parametrize("environment_of", [lambda n: torchrun(n, n % 2, 4), lambda n: step(n, n % 2)])
def test_one_process_of_two_machines_is_the_main_one(environment_of):
    assert [rank_of(environment_of(number)).is_main for number in range(4)] == [True, False, False, False]
