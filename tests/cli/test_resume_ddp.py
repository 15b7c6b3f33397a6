"""Two processes, killed and asked to stop: what the resumed run leaves is what an uninterrupted one leaves."""

import random
import signal
import time

import pytest

from tests.support import warm

pytestmark = pytest.mark.slow

WORDS = ["debug=tiny", "debug.fraction=0.05", "debug.max_epochs=2", "optim.batch_size=16"]
WORDS += ["sequence.order=[digits,greek]", "optim=adamw", "optim.accumulate=2"]
WORDS += ["trainer.strategy=ddp", "trainer.devices=2"]
WORDS += ["optim.mixup=0.4", "optim.label_smoothing=0.1", "optim.balance=sampler", "which_task=features"]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    process = warm.RealProcess("packnet-train", *WORDS, "hydra.run.dir=run", cwd=folder)
    done = process.wait()
    assert done.returncode == 0, done.stderr
    return warm.outcome(folder / "run")


def train(folder, *words):
    return warm.RealProcess("packnet-train", *WORDS, *words, f"hydra.run.dir={folder.name}", cwd=folder.parent)


def resume(folder):
    return warm.RealProcess("packnet-resume", folder, cwd=folder.parent)


@pytest.mark.exhaustive
def test_the_whole_group_is_killed_wherever_it_is(tmp_path, reference):
    folder, rng = tmp_path / "run", random.Random(2)
    events = ["tasks/digits/train/last.ckpt", "tasks/digits/finished.json", "tasks/greek/retrain/last.ckpt"]
    words = ["checkpoint.every_n_steps=2", "optim.num_workers=2"]
    process, kills, begun = train(folder, *words), 0, time.monotonic()
    for event in events:
        scale = (time.monotonic() - begun) / 200
        kills += warm.kill_after(process, (folder / event).exists, rng.random() * scale)
        begun, process = time.monotonic(), resume(folder)
    done = process.wait()
    assert done.returncode == 0, done.stderr
    assert kills >= len(events) - 1
    warm.assert_same(folder, reference)


@pytest.mark.parametrize(
    ("signum", "moment"),
    [
        (signal.SIGTERM, "tasks/digits/train/last.ckpt"),
        pytest.param(signal.SIGUSR1, "tasks/digits/finished.json", marks=pytest.mark.soak),
    ],
)
def test_a_signal_to_the_main_process_stops_both(tmp_path, reference, signum, moment):
    folder = tmp_path / "run"
    process = train(folder)
    while not (folder / moment).exists():
        assert process.running, process.stderr
        time.sleep(0.001)
    process.signal(signum)
    done = process.wait()
    assert done.returncode == 128 + signum, done.stderr
    assert "Traceback" not in done.stderr
    assert f"packnet-train: stopped by {signum.name}; what was done is saved." in done.stderr
    again = resume(folder).wait()
    assert again.returncode == 0, again.stderr
    warm.assert_same(folder, reference)
