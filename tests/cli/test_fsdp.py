"""Sharded runs: killed wherever they are they end with the same bits, and their packed file is like any other."""

import json
import random
import shutil
import signal
import time

import pytest

from packnet_pl.training.sharded_strategy import checkpoint_folder
from tests.support import SCRIPTS, warm
from tests.support.cases import breadth
from tests.support.commands import run
from tests.support.disk_full import FullDisk
from tests.support.process_families import Family

pytestmark = pytest.mark.slow

SHORT = ["debug=tiny", "debug.fraction=0.05", "optim.batch_size=16", "sequence.order=[digits,greek]"]
SHORT += ["trainer=fsdp", "trainer.accelerator=cpu"]
WORDS = [*SHORT, "trainer.devices=2", "debug.max_epochs=2", "optim=adamw", "optim.accumulate=2", "optim.mixup=0.4"]
WORDS += ["which_task=features", "checkpoint.every_n_steps=2"]


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    done = warm.RealProcess("packnet-train", *WORDS, "hydra.run.dir=run", cwd=folder).wait()
    assert done.returncode == 0, done.stderr
    return folder / "run"


def resume(folder, *words):
    done = warm.RealProcess("packnet-resume", folder, *words, cwd=folder.parent).wait()
    assert done.returncode == 0, done.stderr
    return done


@pytest.mark.exhaustive
def test_a_run_leaves_what_others_leave(tmp_path, reference):
    results = json.loads((reference / "results.json").read_text(encoding="utf-8"))
    assert results["complete"]
    assert results["outputs_unchanged"] == [True, True]
    assert [task["owned"] for task in results["tasks"]] == [0.5, 0.25]
    agrees = run("packnet-eval", reference, cwd=tmp_path)
    assert agrees.returncode == 0, agrees.stdout + agrees.stderr
    inspected = run("packnet-inspect", reference / "packed.safetensors", cwd=tmp_path)
    assert inspected.returncode == 0, inspected.stderr
    # Each phase's checkpoint is a file and the one folder that it names.
    for task in ("digits", "greek"):
        for phase in ("train", "retrain"):
            folder = reference / f"tasks/{task}/{phase}"
            assert sorted(folder.iterdir()) == sorted([folder / "last.ckpt", checkpoint_folder(folder / "last.ckpt")])


@pytest.mark.parametrize(
    "rank", [pytest.param(0, marks=pytest.mark.soak), pytest.param(1, marks=pytest.mark.exhaustive)]
)
def test_one_process_is_killed_and_the_run_ends_with_the_same_bits(tmp_path, reference, rank):
    folder = tmp_path / "run"
    family = Family("packnet-train", *WORDS, "hydra.run.dir=run", cwd=tmp_path)
    family.wait_for((folder / f"tasks/digits/{['train', 'retrain'][rank]}/last.ckpt").exists)
    family.signal(signal.SIGKILL, family.rank(rank))
    assert family.wait(60) != 0
    assert family.left(within=30) == {}
    if rank:
        assert "another process of this run has ended" in family.stderr, family.stderr
    resume(folder)
    warm.assert_same(folder, warm.outcome(reference))


@pytest.mark.soak
def test_all_processes_are_killed_wherever_they_are(tmp_path, reference):
    folder, rng = tmp_path / "run", random.Random(3)
    events = ["tasks/digits/train/last.ckpt", "tasks/digits/finished.json", "tasks/greek/retrain/last.ckpt"]
    process = warm.RealProcess("packnet-train", *WORDS, "hydra.run.dir=run", cwd=tmp_path)
    kills, begun = 0, time.monotonic()
    for event in events:
        scale = (time.monotonic() - begun) / 100
        kills += warm.kill_after(process, (folder / event).exists, rng.random() * scale)
        begun, process = time.monotonic(), warm.RealProcess("packnet-resume", folder, cwd=tmp_path)
    done = process.wait()
    assert done.returncode == 0, done.stderr
    assert kills >= len(events) - 1
    warm.assert_same(folder, warm.outcome(reference))


@pytest.mark.exhaustive
def test_it_goes_on_with_another_number_of_processes(tmp_path):
    """Gradients are added up in another order; what was finished stays."""
    family = Family("packnet-train", *SHORT, "trainer.devices=2", "hydra.run.dir=run", cwd=tmp_path)
    folder = tmp_path / "run"
    family.wait_for((folder / "tasks/greek/train/last.ckpt").exists)
    family.signal(signal.SIGKILL)
    family.wait(60)
    assert family.left(within=30) == {}
    done = warm.run("packnet-resume", folder, "trainer.devices=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "greek goes on from" in done.stderr
    results = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    assert results["outputs_unchanged"] == [True, True]
    assert run("packnet-eval", folder, cwd=tmp_path).returncode == 0


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run in one process that was stopped while its first task was retrained."""
    folder = tmp_path_factory.mktemp("stopped")
    process = warm.Process("packnet-train", *SHORT, "trainer.devices=1", "hydra.run.dir=run", cwd=folder)
    assert warm.kill_after(process, (folder / "run/tasks/digits/retrain/last.ckpt").exists)
    return folder / "run"


@pytest.mark.exhaustive
def test_a_truncated_shard_is_named_and_the_phase_begins_anew(tmp_path, stopped):
    folder = tmp_path / "run"
    shutil.copytree(stopped, folder)
    (shard,) = folder.glob("tasks/digits/retrain/*.shards/__0_0.distcp")
    shard.write_bytes(shard.read_bytes()[:-1])
    done = warm.run("packnet-resume", folder, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{shard} has " in done.stderr
    assert "it is passed over" in done.stderr
    assert "digits goes on from" in done.stderr
    assert json.loads((folder / "results.json").read_text(encoding="utf-8"))["complete"]


@pytest.mark.exhaustive
def test_another_trainer_is_refused_in_one_line_and_settings_may_change(tmp_path, stopped):
    folder = tmp_path / "run"
    shutil.copytree(stopped, folder)
    refused = warm.run("packnet-resume", folder, "trainer=cpu", cwd=tmp_path)
    assert refused.returncode == 2
    assert "was written with fsdp as trainer.strategy and would be read with another" in refused.stderr
    assert len(refused.stderr.splitlines()) == 2, refused.stderr  # the first one says what is resumed
    done = warm.run("packnet-resume", folder, "sequence.tasks.digits.retrain.lr=0.001", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    kept = folder / "tasks/digits/retrain/replaced.ckpt"
    assert checkpoint_folder(kept).is_dir()


@pytest.mark.exhaustive
def test_runs_share_their_first_task(tmp_path):
    shared = [*SHORT, "trainer.devices=1", "sequence.order=[digits,greek]", "checkpoint.shared=shared"]
    for name, ratio in (("one", 0.5), ("other", 0.75)):
        done = warm.run("packnet-train", *shared, f"prune.ratio={ratio}", f"hydra.run.dir={name}", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert ("was trained by another job" in done.stderr) == (name == "other")
    alone = warm.run("packnet-train", *shared[:-1], "prune.ratio=0.75", "hydra.run.dir=alone", cwd=tmp_path)
    assert alone.returncode == 0, alone.stderr
    warm.assert_same(tmp_path / "other", warm.outcome(tmp_path / "alone"))


@pytest.mark.soak
def test_a_full_disk_is_said_in_one_line_and_damages_nothing(tmp_path):
    folder, program, words = tmp_path / "run", "packnet-train", [*SHORT, "trainer.devices=1", "hydra.run.dir=run"]
    whole = warm.run("packnet-train", *words[:-1], "hydra.run.dir=whole", cwd=tmp_path)
    assert whole.returncode == 0, whole.stderr
    failures = 0
    for at in range(3, 400, 3):
        done = warm.run(program, *words, cwd=tmp_path, before=FullDisk(at, folder))
        if done.returncode == 0:
            break
        failures += 1
        assert done.returncode == 2, (at, done.stderr)
        assert "Traceback" not in done.stderr, (at, done.stderr)
        assert "No space left on device" in done.stderr.splitlines()[-1], (at, done.stderr)
        if (folder / "run.yaml").exists():
            program, words = "packnet-resume", [folder]
    assert failures >= 8
    warm.assert_same(folder, warm.outcome(tmp_path / "whole"))


@pytest.mark.soak
def test_torchrun_makes_the_same_run(tmp_path, reference):
    torchrun = ["torchrun", "--standalone", "--nproc-per-node", "2", SCRIPTS / "packnet-train"]
    family = Family(*torchrun, *WORDS, "hydra.run.dir=run", cwd=tmp_path)
    assert family.wait() == 0, family.stderr
    assert family.left() == {}
    warm.assert_same(tmp_path / "run", warm.outcome(reference))


REFUSED = {
    "method": (["method=finetune"], "method=finetune was given with trainer=fsdp: only a network whose weights tasks"),
    "ratios": (["prune.ratio=auto"], "prune.ratio=auto was given with trainer=fsdp: each trial has a copy of the net"),
    "batch-norm": (["trainer.sync_batchnorm=true"], "trainer.sync_batchnorm is true, but torch synchronizes batch-no"),
    "filters": (["prune.granularity=filter"], "trainer=fsdp: prune granularity 'filter' was given for a sharded netw"),
    "growth": (["grow=1.25"], "grow=1.25 was given with trainer=fsdp: rows of a wider network are other rows; leav"),
    "averages": (["callbacks=ema"], "trainer=fsdp: ExponentialAverage under ShardedStrategy: it copies the network"),
    "statistics": (["callbacks=recalibrate"], "trainer=fsdp: RecalibrateNorms under ShardedStrategy: it copies the"),
    "distillation": (["optim.distillation=0.5"], "trainer=fsdp: DenseTeacher under ShardedStrategy: it copies the ne"),
    "precision": (["trainer.precision=64-true"], "trainer.precision=64-true: The `ModelParallelStrategy` does not su"),
}


@pytest.mark.parametrize("case", breadth(REFUSED, "method", "filters", "averages"))
def test_what_needs_the_whole_network_is_refused_before_anything_is_made(tmp_path, case):
    words, message = REFUSED[case]
    done = warm.run("packnet-train", *SHORT, "trainer.devices=2", *words, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert message in done.stderr
    assert not (tmp_path / "runs").exists()
    planned = warm.run("packnet-plan", *SHORT, "trainer.devices=2", *words, cwd=tmp_path)
    assert planned.returncode == 2
    assert message in planned.stderr
