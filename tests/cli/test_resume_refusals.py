"""What packnet-resume does not do, and what it says instead."""

import os
import shutil
import subprocess
import sys

import pytest

from packnet_pl.configuration.overrides import merge_overrides
from tests.support import warm
from tests.support.commands import last_line

pytestmark = pytest.mark.slow

SMALL = ["debug=tiny", "debug.fraction=0.02"]


def resume(*words, cwd):
    return warm.run("packnet-resume", *words, cwd=cwd)


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    folder = tmp_path_factory.mktemp("complete") / "run a"
    done = warm.run(
        "packnet-train", *SMALL, "sequence.order=[digits,greek]", "hydra.run.dir='run a'", cwd=folder.parent
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def begun(complete, tmp_path):
    """As a run that was killed while it trained the second of its two tasks."""
    folder = shutil.copytree(complete, tmp_path / "run a")
    for name in ("results.json", "packed.safetensors", "tasks/greek/finished.json"):
        (folder / name).unlink()
    shutil.rmtree(folder / "tasks" / "greek" / "retrain")
    return folder


def refused(done, program="packnet-resume"):
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    line = last_line(done.stderr)
    assert line.startswith(f"{program}: ")
    return line.partition(": ")[2]


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("prune.ratio=0.75", "prune.ratio of 'digits' was 0.5 and would be 0.75, but it is finished"),
        ("prune.scope=global", "prune.scope was layer and would be global"),
        pytest.param("arch=resnet20", "would be", marks=pytest.mark.exhaustive),
        pytest.param("seed=1", "seed was 0 and would be 1", marks=pytest.mark.exhaustive),
        pytest.param("norm=per_task", "norm was shared and would be per_task", marks=pytest.mark.exhaustive),
        pytest.param("optim=adamw", "optim", marks=pytest.mark.exhaustive),
        pytest.param("optim.batch_size=32", "optim.batch_size was 64 and would be 32", marks=pytest.mark.exhaustive),
        pytest.param("optim.accumulate=2", "optim.accumulate was 1 and would be 2", marks=pytest.mark.exhaustive),
        ("debug.fraction=0.1", "debug.fraction was 0.02 and would be 0.1"),
        ("method=finetune", "would be"),
        ("sequence.order=[greek,digits]", "sequence.order is ['greek', 'digits'], but ['digits', 'greek'] were"),
        pytest.param(
            "sequence.order=[digits,latin]",
            "sequence.order is ['digits', 'latin'], but ['digits', 'greek'] were",
            marks=pytest.mark.exhaustive,
        ),
        ("sequence.tasks.digits.train.epochs=3", "sequence.tasks.digits.train.epochs was"),
    ],
)
def test_what_would_make_the_result_a_mix_is_refused(begun, word, reason):
    before = {path: path.read_bytes() for path in begun.rglob("*") if path.is_file()}
    done = resume(begun, word, cwd=begun.parent)
    assert reason in refused(done)
    assert {path: path.read_bytes() for path in begun.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    "words",
    [
        pytest.param([], marks=pytest.mark.exhaustive),
        ["optim.num_workers=2", "checkpoint.every_n_steps=1"],
        pytest.param(["sequence.tasks.latin.train.epochs=3"], marks=pytest.mark.exhaustive),
    ],
    ids=["none", "workers, checkpoints", "another task"],
)
def test_harmless_words_are_taken_and_give_the_same(complete, begun, words):
    done = resume(begun, *words, cwd=begun.parent)
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("packnet-train debug=tiny debug.fraction=0.02")
    assert all(word in done.stderr.splitlines()[0] for word in words)
    assert "greek goes on from" in done.stderr
    warm.assert_same(begun, warm.outcome(complete))


def test_a_ratio_may_be_changed_for_a_task_that_has_not_begun(begun):
    shutil.rmtree(begun / "tasks" / "greek")
    done = resume(begun, "prune.ratio=[0.5,0.75]", cwd=begun.parent)
    assert done.returncode == 0, done.stderr
    ratios = [task["prune_ratio"] for task in warm.outcome(begun)["results.json"]["tasks"]]
    assert ratios == [0.5, 0.75]


def test_a_task_that_is_not_finished_begins_anew_with_other_settings(begun, tmp_path):
    done = resume(begun, "prune.ratio=[0.5,0.75]", "sequence.tasks.greek.train.lr=0.01", cwd=begun.parent)
    assert done.returncode == 0, done.stderr
    assert f"train begins anew with other settings; what was trained is kept as {begun}" in done.stderr
    assert (begun / "tasks" / "greek" / "train" / "replaced.ckpt").exists()
    words = [*SMALL, "sequence.order=[digits,greek]", "prune.ratio=[0.5,0.75]", "sequence.tasks.greek.train.lr=0.01"]
    done = warm.run("packnet-train", *words, "hydra.run.dir=fresh", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    warm.assert_same(begun, warm.outcome(tmp_path / "fresh"))


def test_a_complete_run_says_so(complete, tmp_path):
    before = {path: path.read_bytes() for path in complete.rglob("*") if path.is_file()}
    done = resume(complete, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{complete} is complete: 2 tasks (digits, greek). To add one: packnet-resume '")
    assert {path: path.read_bytes() for path in complete.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("word", "reason"),
    [
        ("sequence.order=[greek,digits]", "sequence.order is ['greek', 'digits'], but "),
        ("seed=3", "seed was 0 and would be 3"),
        ("sede=3", "there is no option sede; did you mean seed"),
    ],
)
def test_words_for_a_complete_run_are_not_passed_over(complete, word, reason):
    assert reason in refused(resume(complete, word, cwd=complete.parent))


def test_a_folder_that_holds_a_run_is_not_trained_in_again(complete):
    done = warm.run("packnet-train", *SMALL, "hydra.run.dir='run a'", cwd=complete.parent)
    assert (
        refused(done, "packnet-train")
        == "run a holds a run already; choose another hydra.run.dir, or go on: packnet-resume 'run a'"
    )


def test_a_second_process_on_one_run_is_refused_and_may_go_on_once_the_first_was_killed(complete, begun):
    first = warm.Process("packnet-resume", begun, "optim.num_workers=2", cwd=begun.parent)
    while "goes on from" not in first.stderr:
        assert first.running, first.stderr
    first.signal(19)  # SIGSTOP: it holds the lock as long as the test likes
    second = resume(begun, cwd=begun.parent)
    assert refused(second) == f"{begun} is in use: another process is running there; wait for it, or stop it"
    first.kill()
    first.wait()
    third = resume(begun, cwd=begun.parent)
    assert third.returncode == 0, third.stderr
    warm.assert_same(begun, warm.outcome(complete))


def test_the_lock_ends_with_its_process_though_a_forked_loader_lives_on(tmp_path):
    script = (
        "import os, sys, time; from pathlib import Path; from packnet_pl.run_directory import lock\n"
        "lock(Path(sys.argv[1]))\n"
        "pid = os.fork()\n"
        "if pid == 0: os.close(1); os.close(2); time.sleep(600)\n"
        "print(pid, flush=True); os._exit(0)\n"
    )
    again = "import sys; from pathlib import Path; from packnet_pl.run_directory import lock; lock(Path(sys.argv[1]))"
    left = int(subprocess.run([sys.executable, "-c", script, tmp_path], capture_output=True, check=True).stdout)
    try:
        subprocess.run([sys.executable, "-c", again, tmp_path], check=True)
    finally:
        os.kill(left, 9)


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["nowhere"], "there is no run in {cwd}/nowhere: it has no run.yaml; start one with packnet-train"),
        (["run a", "--multirun"], "'--multirun' is not of the form KEY=VALUE; options are not taken here"),
        (["run a", "seed"], "'seed' is not of the form KEY=VALUE, such as seed=1, without spaces"),
        (["run a", "sequence.add=[greek]"], "sequence.add names 'greek', which is in the run already: "),
        (["run a", "hydra.run.dir=b"], "'hydra.run.dir=b' would be passed over: packnet-resume goes on in {cwd}/run a"),
        (["run a", "resume=false"], "'resume=false' would be passed over: packnet-resume goes on in {cwd}/run a"),
        (["run a", "sequence.add=new"], "'sequence.add=new': give a list of names, or names with folders: "),
        (["run a", "sequence.add=[lattin]"], "sequence.add names 'lattin'; did you mean latin?"),
    ],
)
def test_wrong_words_are_answered(begun, words, reason):
    done = resume(*words, cwd=begun.parent)
    assert refused(done).startswith(reason.format(cwd=begun.parent))


@pytest.mark.parametrize("words", [[], ["--help"]])
def test_how_to_use_it(tmp_path, words):
    done = resume(*words, cwd=tmp_path)
    assert done.stdout.startswith("packnet-resume RUN_DIR [KEY=VALUE ...] goes on with the run")
    assert done.returncode == (0 if words else 2)


@pytest.mark.parametrize("text", ["", "overrides: [", "[1, 2]", "overrides: []", "!!python/object/apply:os.abort []"])
def test_a_damaged_run_yaml_is_named(begun, text):
    (begun / "run.yaml").write_text(text)
    done = resume(begun, cwd=begun.parent)
    assert refused(done).startswith(f"{begun / 'run.yaml'} is damaged: ")


def test_of_one_key_the_last_word_counts_and_added_tasks_come_together():
    saved = ["debug=tiny", "seed=1", "sequence.add=[a]", "hydra.run.dir=x", "+trainer.precision=32", "resume=true"]
    given = ["sequence.add=[b]", "++trainer.precision=64", "seed=2"]
    assert merge_overrides(saved, given) == ["debug=tiny", "seed=2", "++trainer.precision=64", "sequence.add=[a,b]"]


def test_added_folders_keep_their_paths():
    merged = merge_overrides(["sequence.add=[a]"], ["sequence.add={b: '/data/my birds', c: /data/c}"])
    assert merged == ['sequence.add={a: null, b: "/data/my birds", c: /data/c}']


def test_folders_that_are_given_to_a_resumed_run_are_meant_from_where_one_stands(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    merged = merge_overrides(["sequence.add={a: old}"], ["sequence.add={b: new, c: '~/c'}"])
    assert merged == [f'sequence.add={{a: old, b: {tmp_path}/new, c: "~/c"}}']


def test_another_network_is_not_lost_behind_the_longer_form_of_the_saved_one():
    saved = ["arch=torchvision", "arch.name=resnet18", "seed=1"]
    assert merge_overrides(saved, []) == ["seed=1", "arch=resnet18"]
    assert merge_overrides(saved, ["arch=resnet34"]) == ["seed=1", "arch=resnet34"]
