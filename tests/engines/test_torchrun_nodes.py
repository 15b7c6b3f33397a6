"""Several machines, as far as one machine can show it: two starts on loopback, each with one process of its own."""

import socket

import pytest

from tests.support import SCRIPTS, warm
from tests.support.commands import last_line, run_installed
from tests.support.process_families import Family

pytestmark = [pytest.mark.slow, pytest.mark.soak]

WORDS = ["debug=tiny", "optim.batch_size=16", "logger=none", "sequence.order=[digits,greek]", "trainer=ddp"]
NODES = ["trainer.devices=1", "trainer.num_nodes=2"]


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return str(found.getsockname()[1])


@pytest.fixture(scope="module")
def one_machine(tmp_path_factory):
    """The same two processes, started by Lightning on one machine."""
    folder = tmp_path_factory.mktemp("one")
    done = run_installed("packnet-train", *WORDS, "trainer.devices=2", "hydra.run.dir=run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return warm.outcome(folder / "run")


def by_torchrun(folder, *words, other=()):
    port = free_port()
    place = ["--nnodes", "2", "--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", port]
    return [
        Family("torchrun", *place, "--node-rank", node, SCRIPTS / "packnet-train", *WORDS, *NODES, *said, cwd=folder)
        for node, said in enumerate([words, [*words, *other]])
    ]


def by_hand(folder, *words, other=()):
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    return [
        Family("packnet-train", *WORDS, *NODES, *said, cwd=folder, **place, NODE_RANK=node)
        for node, said in enumerate([words, [*words, *other]])
    ]


@pytest.mark.parametrize("start", [by_torchrun, by_hand])
def test_two_machines_make_one_run(tmp_path, start, one_machine):
    families = start(tmp_path)
    assert [family.wait(600) for family in families] == [0, 0], [family.stderr for family in families]
    assert [family.left() for family in families] == [{}, {}]
    (folder,) = tmp_path.glob("runs/*/*")
    assert last_line(families[0].stdout) == f"run directory: {folder}"
    assert families[1].stdout == ""
    warm.assert_same(folder, one_machine)


@pytest.mark.parametrize("start", [by_torchrun, by_hand])
def test_other_words_on_the_second_machine_end_both(tmp_path, start):
    families = start(tmp_path, other=["prune.ratio=0.75"])
    assert all(family.wait(600) in (1, 2) for family in families)
    assert [family.left() for family in families] == [{}, {}]
    message = "packnet-train: process 1 of 2: its prune.ratio is not that of process 0; start all with the same words"
    assert message in families[0].stderr
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("start", [by_torchrun, by_hand])
def test_a_refusal_of_the_first_machine_ends_both(tmp_path, start):
    families = start(tmp_path, "arch.hidden=0")
    assert all(family.wait(600) in (1, 2) for family in families)
    assert [family.left() for family in families] == [{}, {}]
    assert sum(family.stderr.count("packnet-train: arch: vgg_small with") for family in families) == 1
    assert not (tmp_path / "runs").exists()
