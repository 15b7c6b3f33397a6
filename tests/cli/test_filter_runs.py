"""Whole filters are pruned from the command line."""

import re

import pytest

from packnet_pl import load_packed
from tests.support import warm
from tests.support.commands import run

pytestmark = pytest.mark.slow

TINY = ["debug=tiny", "sequence.order=[digits,greek]"]


def test_a_run_that_prunes_filters_and_one_more_task_from_its_packed_file(tmp_path):
    done = warm.run("packnet-train", *TINY, "prune.granularity=filter", "hydra.run.dir=r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = warm.outcome(tmp_path / "r")["results.json"]
    assert found["outputs_unchanged"] == [True, True]
    for owner in load_packed(tmp_path / "r" / "packed.safetensors").packnet.owners.values():
        rows = owner.reshape(len(owner), -1)
        assert (rows == rows[:, :1]).all()
        assert [int((rows[:, 0] == number).sum()) for number in (1, 2)] == [len(rows) // 2, len(rows) // 4]
    words = ["packed=r/packed.safetensors", "sequence.add=[latin]", "debug=tiny", "prune.granularity=filter"]
    done = warm.run("packnet-train", *words, "hydra.run.dir=more", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert warm.outcome(tmp_path / "more")["results.json"]["tasks"][2]["owned"] == 0.125


def test_filters_cannot_follow_single_weights(tmp_path):
    done = warm.run("packnet-train", *TINY, "hydra.run.dir=r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    words = ["packed=r/packed.safetensors", "sequence.add=[latin]", "prune.granularity=filter", "hydra.run.dir=more"]
    done = warm.run("packnet-train", *words, cwd=tmp_path)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "prune.granularity is 'filter': filter " in done.stderr
    assert "use granularity='weight'" in done.stderr
    assert not (tmp_path / "more").exists()


def test_the_plan_counts_filters(tmp_path):
    words = ["sequence.order=[digits,greek]", "prune.ratio=[0.5,0.75]", "prune.granularity=filter"]
    done = run("packnet-plan", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "filters" in done.stdout.splitlines()[1]
    # 16 + 32 + 32 + 64 + 64 + 128 filters.
    assert re.search(r"digits +10 .* +0\.5 +168 +168 +30 \+ 10", done.stdout)
    assert re.search(r"greek +31 .* +0\.75 +42 +126 ", done.stdout)
