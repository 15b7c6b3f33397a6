"""What a sweep knows of its jobs, wherever their folders lie: without their training (``fake_jobs``)."""

import json
import sqlite3
from contextlib import closing

import optuna
import pytest

from packnet_pl.report.runs import find_runs
from packnet_pl.sweep_jobs import Job, append_job, jobs_since, size_of_jobs
from tests.support import fake_jobs, warm
from tests.support.cases import breadth
from tests.support.commands import last_line

pytestmark = pytest.mark.slow
SEARCH = ["hydra/sweeper=search_ratio", "hydra.sweep.dir=s"]
STORED = [*SEARCH, "hydra.sweeper.storage='sqlite:///s.db'", "hydra.sweeper.study_name=a", "hydra.sweeper.n_trials=2"]


def sweep(*words, cwd):
    return warm.run("packnet-train", "-m", *words, cwd=cwd, before=fake_jobs.install)


def ratios(folder):
    return sorted(run.ratios[0] for run in find_runs([folder])[0])


@pytest.mark.parametrize(
    "subdir", breadth(["${seed}/${prune.ratio}", ".jobs/é/${hydra.job.num}"], ".jobs/é/${hydra.job.num}")
)
def test_jobs_in_nested_and_hidden_folders_are_known_and_reported(subdir, tmp_path):
    words = ["prune.ratio=0.5,1.5,0.7", f"hydra.sweep.subdir='{subdir}'", "hydra.sweep.dir=s"]
    words += ["hydra.output_subdir=null"]  # so that a job which failed has left nothing
    for _ in range(2):  # the same command again keeps what is complete
        done = sweep(*words, cwd=tmp_path)
        assert done.returncode == 1, done.stderr
        assert "1 of 3 jobs failed or were broken off:\n" in done.stderr
    assert done.stderr.count(" is complete\n") == 2
    assert "sweep directory:" in done.stdout
    runs, unfinished = find_runs([tmp_path / "s"])
    assert [run.ratios[0] for run in runs] == [0.5, 0.7]
    assert [str(path) in done.stderr for path in unfinished] == [True]
    # A sweep directory without the file, as older versions leave them, and one that was moved.
    (tmp_path / "s").rename(tmp_path / "moved")
    assert ratios(tmp_path / "moved") == [0.5, 0.7]
    (tmp_path / "moved" / "jobs.jsonl").unlink()
    assert ratios(tmp_path / "moved") == ratios(tmp_path) == [0.5, 0.7]


def test_a_search_of_which_jobs_failed_in_nested_folders_ends_with_code_1(tmp_path):
    words = ["hydra.sweeper.params={prune.ratio: 'choice(0.5,1.5)'}", "hydra.sweeper.n_trials=3"]
    done = sweep(*SEARCH, *words, "hydra.sweep.subdir='${seed}/${hydra.job.num}'", cwd=tmp_path)
    assert (done.returncode, "jobs failed or were broken off" in done.stderr) == (1, True), done.stderr
    assert len(find_runs([tmp_path / "s"])[0]) < 3


def test_two_jobs_with_one_folder_are_refused_and_named(tmp_path):
    done = sweep("prune.ratio=0.5,0.7", "hydra.sweep.subdir='${seed}'", "hydra.sweep.dir=s", cwd=tmp_path)
    assert done.returncode == 1
    said = f"job 0 (prune.ratio=0.5) and job 1 (prune.ratio=0.7) have the same folder {tmp_path / 's' / '0'}: hydra."
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert ratios(tmp_path / "s") == [0.5]


@pytest.mark.exhaustive
def test_a_network_name_is_a_choice_of_a_sweep_whatever_the_sweeper(tmp_path):
    """Also where another word is about the choice, and the default choice has no such key."""
    done = sweep("arch=resnet18,timm/resnet18,vgg16", "arch.width=1", "hydra.sweep.dir=s", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [run.arch for run in find_runs([tmp_path / "s"])[0]] == ["resnet18", "timm/resnet18", "vgg16"]
    mine = tmp_path / "mine" / "experiment" / "mine.yaml"
    mine.parent.mkdir(parents=True)
    mine.write_text(
        "# @package _global_\nhydra: {sweeper: {params: {prune.ratio: '0.5', arch: 'choice(resnet34,timm/resnet18)'}}}"
    )
    for words in (["hydra.sweep.dir=b"], [SEARCH[0], "hydra.sweep.dir=c", "hydra.sweeper.n_trials=2"]):
        done = sweep("--config-dir", "mine", "experiment=mine", "arch.width=1", *words, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert [run.arch for run in find_runs([tmp_path / "b"])[0]] == ["resnet34", "timm/resnet18"]
    done = sweep("arch=resnet18,resnet34", "arch.widht=1", cwd=tmp_path)
    assert (done.returncode, last_line(done.stderr)) == (
        2,
        "packnet-train: there is no option arch.widht; did you mean arch.width?",
    )


@pytest.mark.exhaustive
def test_a_study_in_a_database_goes_on_with_the_same_command(tmp_path):
    for call in (1, 2):
        done = sweep(*STORED, cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert len(set(ratios(tmp_path / "s"))) == 2 * call  # new trials, in folders of their own
    with sqlite3.connect(tmp_path / "s.db") as database:
        values = [value for (value,) in database.execute("select value from trial_values")]
    assert sorted(values) == ratios(tmp_path / "s")
    failing = ["hydra.sweeper.params={prune.ratio: 'interval(1.1,1.2)'}"]
    done = sweep(*STORED, *failing, cwd=tmp_path)
    assert (done.returncode, "2 of 2 jobs failed" in done.stderr, "Traceback" in done.stderr) == (1, True, False)
    # Without a name each call is a study of its own, with the same trials.
    for _ in range(2):
        done = sweep(*SEARCH[:1], *STORED[2:3], STORED[-1], "hydra.sweep.dir=t", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
    assert done.stderr.count(" is complete\n") == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["hydra.sweeper.storage='sqlite:///no/folder/s.db'"], "unable to open database file"),
        (["hydra.sweeper.storage='sqlite:///text.db'"], "file is not a database"),
        (["hydra.sweeper.storage='sqlite:///locked.db'"], "database is locked"),
        (["hydra.sweeper.storage=s.db"], "Could not parse"),
        (["hydra.sweeper.storage='nothing://host/s'"], "nothing"),
        ([STORED[2], "hydra.sweeper.direction=[maximize,minimize]"], "direction"),
    ],
    ids=["no folder", "no database", "locked", "no URL", "unknown driver", "other direction"],
)
def test_a_study_that_cannot_be_kept_is_refused_in_one_line(words, message, tmp_path):
    (tmp_path / "text.db").write_text("this is no database")
    optuna.create_study(f"sqlite:///{tmp_path}/s.db", study_name="a", direction="maximize")
    locked = tmp_path / "locked.db"
    optuna.create_study(f"sqlite:///{locked}", study_name="a", direction="maximize")
    with closing(sqlite3.connect(locked)) as database:
        database.execute("begin immediate")
        done = sweep(*SEARCH, "hydra.sweeper.study_name=a", *words, cwd=tmp_path)
    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("packnet-train: hydra.sweeper.storage=")
    assert message in line


def older_database():
    from packnet_pl.launch import study

    study.version = {"optuna": "2.10.1", "sqlalchemy": "2.1.9"}.__getitem__


def test_versions_that_do_not_go_together_are_named(tmp_path):
    done = warm.run("packnet-train", "-m", *STORED, cwd=tmp_path, before=older_database)
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert "Optuna 2.10.1 keeps studies with SQLAlchemy below 2, and 2.1.9 is installed: pip install" in done.stderr


def test_a_line_that_was_broken_off_hides_no_other(tmp_path):
    first, second = (Job(number, tmp_path / str(number), ("seed=0",), "begun") for number in range(2))
    assert append_job(tmp_path, first) is None
    begin = size_of_jobs(tmp_path)
    with (tmp_path / "jobs.jsonl").open("a") as file:
        file.write('{"job": 1, "fol')
    assert append_job(tmp_path, second) is None
    assert append_job(tmp_path, second) == second
    assert jobs_since(tmp_path) == [first, second]
    assert jobs_since(tmp_path, begin) == [second]
    (tmp_path / "jobs.jsonl").write_text(json.dumps({"job": "x"}) + "\n")
    with pytest.raises(ValueError, match=r"jobs\.jsonl is damaged"):
        jobs_since(tmp_path)
