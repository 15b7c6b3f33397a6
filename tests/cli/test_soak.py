"""A hundred kills at random instants: `make soak`."""

import random
import sys

import pytest
import warm

pytestmark = [pytest.mark.soak, pytest.mark.slow]

WORDS = ["debug=tiny", "debug.fraction=0.05", "debug.max_epochs=2", "optim.batch_size=16", "logger=none"]
WORDS += ["sequence.order=[latin,greek]", "optim=adamw", "optim.accumulate=2"]
DDP = ["trainer.strategy=ddp", "trainer.devices=2"]


@pytest.mark.parametrize(
    ("start", "words", "total"),
    [
        pytest.param(warm.Process, ["checkpoint.every_n_steps=2", "optim.num_workers=2"], 70, id="one process"),
        pytest.param(warm.RealProcess, [*DDP, "checkpoint.every_n_steps=2"], 30, id="two processes"),
    ],
)
def test_a_hundred_kills(tmp_path, capsys, start, words, total):
    process = start("packnet-train", *WORDS, *words, "hydra.run.dir=reference", cwd=tmp_path)
    begun = process.begun
    done = process.wait()
    assert done.returncode == 0, done.stderr
    seconds = warm.time.monotonic() - begun
    reference = warm.outcome(tmp_path / "reference")
    rng, kills, runs = random.Random(3), 0, 0
    while kills < total:
        folder = tmp_path / f"run {runs}"
        process = start("packnet-train", *WORDS, *words, f"hydra.run.dir='{folder.name}'", cwd=tmp_path)
        # A few kills per run, so that many of them hit what comes late.
        for _ in range(rng.randint(1, 6)):
            kills += warm.kill_after(process, lambda: True, rng.random() * seconds)
            if not (folder / "run.yaml").exists():  # killed before it began
                process = start("packnet-train", *WORDS, *words, f"hydra.run.dir='{folder.name}'", cwd=tmp_path)
            else:
                process = start("packnet-resume", folder, cwd=tmp_path)
        done = process.wait()
        assert done.returncode == 0, done.stderr
        warm.assert_same(folder, reference)
        runs += 1
        with capsys.disabled():
            sys.stdout.write(f"\n{kills} kills survived, {runs} runs bit-identical")
            sys.stdout.flush()
