"""The disk fills up at each write of a run in turn: one clear line, and nothing good is damaged."""

import pytest

from tests.support import warm
from tests.support.disk_full import FullDisk

pytestmark = pytest.mark.slow

WORDS = ["debug=tiny", "debug.fraction=0.02", "sequence.order=[digits,greek]", "hydra.run.dir=run"]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    done = warm.run("packnet-train", *WORDS, cwd=folder)
    assert done.returncode == 0, done.stderr
    return warm.outcome(folder / "run")


@pytest.mark.parametrize("step", [3, pytest.param(1, marks=pytest.mark.soak)])
def test_a_full_disk_is_said_in_one_line_and_damages_nothing(tmp_path, reference, step):
    """The run goes on from each failure with the next write failing in its turn, until it reaches its end."""
    folder, program, words = tmp_path / "run", "packnet-train", WORDS
    failures = 0
    for at in range(step, 400, step):
        done = warm.run(program, *words, cwd=tmp_path, before=FullDisk(at, folder))
        if done.returncode == 0:
            break
        failures += 1
        assert done.returncode == 2, (at, done.stderr)
        assert "Traceback" not in done.stderr, (at, done.stderr)
        assert "No space left on device" in done.stderr.splitlines()[-1], (at, done.stderr)
        assert not [path for path in folder.rglob(".*.*") if path.name.split(".")[-1] in ("ckpt", "json")]
        if (folder / "run.yaml").exists():
            program, words = "packnet-resume", [folder]
    assert failures >= 8
    warm.assert_same(folder, reference)
