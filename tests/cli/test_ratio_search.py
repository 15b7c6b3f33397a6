"""prune.ratio=auto: a run chooses the ratio of each task by trials on its validation split."""

import json

import pytest

from tests.support import warm
from tests.support.commands import last_line, run

WORDS = ["debug=tiny", "sequence.order=[digits]", "optim.batch_size=16", "debug.fraction=0.3", "debug.max_epochs=2"]
AUTO = ["prune.ratio=auto", "prune.tolerance=20", "prune.trials=2", "optim.distillation=0.5"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["method=finetune", "prune.ratio=auto"], "prune.ratio is auto, but method=finetune packs nothing"),
        (["prune.ratio=auto", "prune.tolerance=-1"], "prune.tolerance is -1.0; allowed are points of accuracy"),
        (["prune.ratio=auto", "prune.trials=0"], "prune.trials is 0; allowed is 1 or more"),
        (["prune.ratio=often"], "prune.ratio is often; allowed is a fraction in [0, 1), a list of them, or auto"),
        (["prune.ratio=auto", "prune.schedule=learned"], "ratios are compared with the dense network, and"),
        (["prune.ratio=[0.5,auto]"], "allowed is a fraction in [0, 1), a list of them, or auto"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused(tmp_path, words, message):
    done = run("packnet-train", *WORDS, *words, "hydra.run.dir=run", cwd=tmp_path)
    assert done.returncode == 2
    assert message in last_line(done.stderr)
    assert not (tmp_path / "run").exists()


def trials_of(folder):
    return json.loads((folder / "tasks/digits/ratio_trials.json").read_text())["trials"]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    done = warm.run("packnet-train", *WORDS, *AUTO, "hydra.run.dir=run", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run", (folder / "run/packnet-train.log").read_text(encoding="utf-8")


@pytest.mark.slow
@pytest.mark.exhaustive
def test_a_run_says_what_it_tried_and_what_it_chose(found):
    folder, output = found
    (task,) = json.loads((folder / "results.json").read_text())["tasks"]
    trials = trials_of(folder)
    said = [line.split("] ")[-1].split(" costs ")[0] for line in output.splitlines() if " costs " in line]
    assert said == [f"digits: prune ratio {trial['ratio']:.4g}" for trial in trials]
    assert "(one image is " in output
    assert trials[0]["ratio"] == 0.5
    assert task["prune_ratio"] in [trial["ratio"] for trial in trials]
    assert f"prune ratio {task['prune_ratio']:.4g} is chosen, the largest of 3 ratios tried" in output


@pytest.mark.slow
@pytest.mark.exhaustive
def test_trials_leave_no_trace(found, tmp_path):
    folder, _ = found
    (task,) = json.loads((folder / "results.json").read_text())["tasks"]
    words = [f"prune.ratio={task['prune_ratio']}", "optim.distillation=0.5", "hydra.run.dir=plain"]
    done = warm.run("packnet-train", *WORDS, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    own = ["probe.safetensors", "filters.json", "logs/train/metrics.csv", "logs/retrain/metrics.csv"]
    for name in [f"tasks/digits/{file}" for file in own]:
        assert (folder / name).read_bytes() == (tmp_path / "plain" / name).read_bytes(), name
    (plain,) = json.loads((tmp_path / "plain/results.json").read_text())["tasks"]
    assert plain["val_accuracy"] == task["val_accuracy"]


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.parametrize("trials", [0, 1, 3], ids=["in the training", "in the second trial", "behind the last one"])
def test_a_run_that_is_killed_in_its_search_repeats_no_trial_and_ends_with_the_same_bits(found, tmp_path, trials):
    reference, _ = found
    folder = tmp_path / "killed"

    def is_time():
        if not trials:
            return (folder / "tasks/digits/train/last.ckpt").exists()
        return (folder / "tasks/digits/ratio_trials.json").exists() and len(trials_of(folder)) >= trials

    process = warm.Process("packnet-train", *WORDS, *AUTO, "hydra.run.dir=killed", cwd=tmp_path)
    assert warm.kill_after(process, is_time)
    done_before = len(trials_of(folder)) if trials else 0
    done = warm.run("packnet-resume", "killed", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert trials_of(folder) == trials_of(reference)
    assert done.stderr.count(" costs ") == len(trials_of(reference)) - done_before
    warm.assert_same(folder, warm.outcome(reference))
