"""A task that diverged, or is to have other settings, begins anew in its run; what is finished stays."""

import copy
import shlex

import pytest
from omegaconf import OmegaConf

from packnet_pl.configuration.resume_rules import open_tasks, refuse_mixing, set_aside
from packnet_pl.configuration.task_settings import lower_rate
from packnet_pl.errors import UsageError
from tests.support import warm
from tests.support.commands import last_line

SMALL = ["debug=tiny", "debug.fraction=0.02", "debug.max_epochs=2", "logger=csv", "sequence.order=[digits]"]
NORMS = ["arch=resnet20", "arch.in_channels=1", "arch.width=0.5"]


def metrics(folder):
    return (folder / "tasks/digits/logs/train/metrics.csv").read_text()


@pytest.mark.slow
def test_divergence_with_a_finite_loss_is_one_line_whose_command_works_as_typed(tmp_path):
    """Batch-norm's running variance overflows, while the loss, which it has no part in, stays finite."""
    words = [*SMALL, *NORMS, "sequence.tasks.digits.train.lr=1e10", "hydra.run.dir='run a'"]
    done = warm.run("packnet-train", *words, cwd=tmp_path)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    line = last_line(done.stderr)
    assert "running_var holds NaN or infinity since task 'digits' was trained: the task stops here" in line
    run = tmp_path / "run a"
    assert (run / "tasks/digits/train/last.ckpt").exists()  # of the epoch before

    program, *typed = shlex.split(line.partition("a tenth of the rate: ")[2])
    assert (program, typed) == ("packnet-resume", [str(run), "sequence.tasks.digits.train.lr=1e+09"])
    done = warm.run(program, *typed, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "begins anew with other settings; what was trained is kept as" in done.stderr
    fresh = [*SMALL, *NORMS, "sequence.tasks.digits.train.lr=1e9", "hydra.run.dir=fresh"]
    assert warm.run("packnet-train", *fresh, cwd=tmp_path).returncode == 0
    warm.assert_same(run, warm.outcome(tmp_path / "fresh"))
    assert metrics(run) == metrics(tmp_path / "fresh")


SAVED = {
    "sequence": {
        "order": ["a", "b", "c"],
        "finished": [],
        "tasks": {
            name: {
                "data": {"path": "x", "channels": 1},
                "head": "new",
                "train": {"epochs": 2, "lr": 0.1},
                "retrain": {"epochs": 1, "lr": 0.01},
            }
            for name in "abc"
        },
    },
    "prune": {"ratio": 0.5, "last": True},
    "method": {"together": False},
    "optim": {"batch_size": 64},
    "seed": 0,
    "packed": None,
}


def config(finished=(), together=False, **changes):
    new = copy.deepcopy(SAVED)
    new["sequence"]["finished"], new["method"]["together"] = list(finished), together
    new = OmegaConf.create(new)
    for key, value in changes.items():
        OmegaConf.update(new, key.replace("__", "."), value)
    return OmegaConf.to_container(new)


BOTH = ("retrain", "train")


@pytest.mark.parametrize(
    ("changes", "anew"),
    [
        ({}, ()),
        ({"sequence__tasks__b__train__lr": 0.01}, BOTH),
        ({"sequence__tasks__b__train__epochs": 9}, BOTH),
        ({"sequence__tasks__b__data__channels": 3}, BOTH),
        ({"sequence__tasks__b__head": "pretrained"}, BOTH),
        ({"sequence__tasks__b__retrain__lr": 0.1}, ("retrain",)),
        ({"prune__ratio": [0.5, 0.75, 0.5]}, ("retrain",)),
        ({"sequence__tasks__c__train__lr": 0.01, "prune__ratio": [0.5, 0.5, 0.9]}, ()),
        ({"sequence__tasks__b__data__path": "elsewhere"}, ()),
        ({"sequence__tasks__a__data__cache_gb": 20, "sequence__tasks__b__data__cache_dir": "elsewhere"}, ()),
    ],
)
@pytest.mark.parametrize("finished", [["a"], []], ids=["packed", "packed file lost"])
def test_what_is_not_finished_may_change_and_begins_anew(changes, anew, finished):
    now = config(finished, **changes)
    assert open_tasks(now, ["a", "b"]) == ["b"]
    assert refuse_mixing(SAVED, now, ["a", "b"]) == anew


@pytest.mark.parametrize("finished", [["a"], []], ids=["packed", "packed file lost"])
@pytest.mark.parametrize(
    "changes",
    [
        {"sequence__tasks__a__train__lr": 0.01},
        {"sequence__tasks__a__retrain__epochs": 2},
        {"prune__ratio": [0.75, 0.5, 0.5]},
        {"optim__batch_size": 32},
        {"seed": 1},
    ],
)
def test_what_is_finished_may_not_change(changes, finished):
    with pytest.raises(UsageError, match=r"was .* and would be"):
        refuse_mixing(SAVED, config(finished, **changes), ["a", "b"])
    with pytest.raises(UsageError, match=r"was .* and would be"):
        refuse_mixing(SAVED, config(["a", "b"], **changes), ["a", "b"])


@pytest.mark.parametrize("changes", [{"optim__batch_size": 32}, {"seed": 1}, {"sequence__tasks__a__train__lr": 0.01}])
def test_as_long_as_no_task_is_finished_everything_may_change(changes):
    assert refuse_mixing(SAVED, config(**changes), ["a"]) == BOTH
    together = config(together=True, **changes)
    assert open_tasks(together, ["a", "b", "c"]) == ["a", "b", "c"]
    assert refuse_mixing(config(together=True), together, ["a", "b", "c"]) == BOTH


def test_checkpoints_of_a_phase_that_begins_anew_are_kept_beside(tmp_path):
    for phase in ("train", "retrain"):
        (tmp_path / "tasks" / "b" / phase).mkdir(parents=True)
        (tmp_path / "tasks" / "b" / phase / "last.ckpt").write_text(phase)
    assert set_aside(tmp_path, ["b"], ()) == []
    assert set_aside(tmp_path, ["b"], ("retrain",)) == [tmp_path / "tasks/b/retrain/replaced.ckpt"]
    assert (tmp_path / "tasks/b/train/last.ckpt").read_text() == "train"
    assert [path.read_text() for path in (tmp_path / "tasks/b/retrain").iterdir()] == ["retrain"]


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("a-1", "sequence.tasks.a-1.train.lr=0.025"),
        ("caltech 256", r"sequence.tasks={caltech\ 256: {train: {lr: 0.025}}}"),
        ("vögel", "sequence.tasks={vögel: {train: {lr: 0.025}}}"),
        ("v1.5", "sequence.tasks={v1.5: {train: {lr: 0.025}}}"),
    ],
)
def test_the_word_for_a_lower_rate_names_the_task_whatever_it_is_called(name, word):
    tasks = {name: {"train": {"lr": 0.25, "epochs": 2}}, "other": {"train": {"lr": 8, "epochs": 1}}}
    told = OmegaConf.create({"sequence": {"order": ["other", name], "tasks": tasks}, "method": {"together": False}})
    assert lower_rate(told, name, "train") == word
    told.method.together = True
    assert lower_rate(told, f"other+{name}", "train") == word
