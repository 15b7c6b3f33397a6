"""A hundred kills at random instants: `make soak`."""

import random
import sys
import time

import pytest

from tests.support import warm
from tests.support.photographs import everything_random

pytestmark = [pytest.mark.soak, pytest.mark.slow]

SAVING = ["checkpoint.every_n_steps=2", "optim.num_workers=2"]
DDP = ["trainer.strategy=ddp", "trainer.devices=2"]


@pytest.mark.parametrize(
    ("start", "words", "total"),
    [
        pytest.param(warm.Process, SAVING, 70, id="one process"),
        pytest.param(warm.RealProcess, [*SAVING, *DDP], 30, id="two processes"),
    ],
)
def test_a_hundred_kills(tmp_path, capsys, start, words, total):
    words = [*everything_random(tmp_path), *words]
    for name in ("first", "reference"):  # the first one warms up: it says nothing of how long a run takes
        begun = time.monotonic()
        done = start("packnet-train", *words, f"hydra.run.dir={name}", cwd=tmp_path).wait()
        assert done.returncode == 0, done.stderr
        seconds = time.monotonic() - begun
    reference = warm.outcome(tmp_path / "reference")
    rng, kills, runs = random.Random(3), 0, 0
    while kills < total:
        folder = tmp_path / f"run {runs}"
        process = start("packnet-train", *words, f"hydra.run.dir='{folder.name}'", cwd=tmp_path)
        # A few kills per run, so that many of them hit what comes late.
        for _ in range(rng.randint(1, 6)):
            kills += warm.kill_after(process, lambda: True, rng.uniform(0.05, 0.7) * seconds)
            if (folder / "run.yaml").exists():
                process = start("packnet-resume", folder, cwd=tmp_path)
            else:  # killed before it began
                process = start("packnet-train", *words, f"hydra.run.dir='{folder.name}'", cwd=tmp_path)
        done = process.wait()
        assert done.returncode == 0, done.stderr
        warm.assert_same(folder, reference)
        runs += 1
        with capsys.disabled():
            sys.stdout.write(f"\n{kills} kills survived, {runs} runs bit-identical")
            sys.stdout.flush()
