"""Loggers by name, as a user asks for them: what each holds in the end, also of a run that was killed."""

import json
import pathlib

import pytest

from packnet_pl.run.metrics_file import read_metrics
from packnet_pl.run_directory import metrics_path
from tests.support import warm
from tests.support.commands import last_line, run, run_installed, train
from tests.support.logged import (
    images_in_tensorboard,
    in_mlflow,
    in_tensorboard,
    in_wandb,
    mlflow_runs,
    wandb_files,
    wandb_records,
)

SMALL = [
    "debug=tiny",
    "debug.fraction=0.05",
    "debug.max_epochs=3",
    "sequence.order=[digits,greek]",
    "hydra.run.dir=run",
]
ALL = "logger=[tensorboard,wandb,mlflow]"


@pytest.fixture(autouse=True)
def offline(monkeypatch, tmp_path_factory):
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DATA_DIR", str(tmp_path_factory.getbasetemp() / "wandb"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)


def uri(folder):
    return f"sqlite:///{folder}/mlflow.db"


def expected_curves(folder):
    """The learning curves of ``metrics.csv``, under the names and steps of the whole run."""
    found, begin = {}, 0
    for task in ("digits", "greek"):
        for phase in ("train", "retrain"):
            rows = read_metrics(metrics_path(folder, task, phase))
            for step, row in rows:
                for name, value in row.items():
                    if "/" not in name and name != "epoch":
                        name = f"{task}/{phase}/{name.removeprefix('train_')}"
                        found.setdefault(name, []).append((begin + step, value))
            begin += 1 + max(step for step, _ in rows)
    return found


def rounded(metrics):
    return {name: [(step, pytest.approx(value, abs=1e-7)) for step, value in row] for name, row in metrics.items()}


def assert_complete(metrics, folder):
    """Every step of every curve once, in order, and what belongs to no epoch."""
    curves = expected_curves(folder)
    assert {name: metrics[name] for name in curves} == rounded(curves)
    results = json.loads((folder / "results.json").read_text())
    ends = [max(step for step, _ in metrics[f"{task}/retrain/loss"]) for task in ("digits", "greek")]
    accuracy = results["accuracy"]
    assert metrics["digits/test_accuracy"] == rounded({"": [(ends[0], accuracy[0][0]), (ends[1], accuracy[1][0])]})[""]
    assert metrics["greek/test_accuracy"] == rounded({"": [(ends[1], accuracy[1][1])]})[""]
    for task, of in zip(("digits", "greek"), results["tasks"], strict=True):
        ((_, ratio),), ((_, owned),) = metrics[f"{task}/prune/ratio"], metrics[f"{task}/prune/owned"]
        ((_, before),) = metrics[f"{task}/prune/val_accuracy_before"]
        ((_, after),) = metrics[f"{task}/prune/val_accuracy_after"]
        found = [ratio, owned, before, after]
        assert found == pytest.approx([0.5, of["owned"], of["val_accuracy"]["dense"], of["val_accuracy"]["pruned"]])
    ((_, released),) = metrics["digits/prune/released"]
    assert released == pytest.approx(0.5, abs=1e-3)
    assert metrics["capacity/free"][-1] == (ends[1], pytest.approx(results["free"], abs=1e-6))
    for name, values in metrics.items():
        steps = [step for step, _ in values]
        assert steps == sorted(set(steps)), name


def assert_described(folder, title):
    """Hyperparameters, figures and the packed file are where the logger puts them."""
    client, (mlflow,) = mlflow_runs(uri(folder.parent))
    assert mlflow.data.params["prune.ratio"] == "0.5"
    assert mlflow.info.run_name == title
    assert {file.path for file in client.list_artifacts(mlflow.info.run_id)} == {
        "packed.safetensors",
        "report",
        "run.yaml",
    }
    copied = client.download_artifacts(mlflow.info.run_id, "packed.safetensors")
    with pathlib.Path(copied).open("rb") as file:
        assert file.read() == (folder / "packed.safetensors").read_bytes()
    assert mlflow.info.status == "FINISHED"
    images = images_in_tensorboard(folder)
    assert list(images) == ["report/ownership"]
    records = list(wandb_records(wandb_files(folder)[-1]))
    (config,) = [record.config for record in records if record.WhichOneof("record_type") == "config"][-1:]
    values = {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in config.update}
    assert values["prune.ratio"] == 0.5
    (begun,) = [record.run for record in records if record.WhichOneof("record_type") == "run"][:1]
    assert (begun.display_name, begun.project) == (title, "packnet")
    artifacts = [record.artifact for record in records if record.WhichOneof("record_type") == "artifact"]
    assert {entry.path for entry in artifacts[-1].manifest.contents} == {"packed.safetensors", "run.yaml"}


def assert_all_complete(cwd, title="packnet vgg_small run"):
    folder = cwd / "run"
    for metrics in (in_tensorboard(folder), in_mlflow(uri(cwd)), in_wandb(wandb_files(folder)[-1])):
        assert_complete(metrics, folder)
    assert_described(folder, title)


def rows(folder, task, phase):
    return len(read_metrics(metrics_path(folder, task, phase)))


def losses(folder, task, phase):
    found = [row.get("train_loss") for _, row in read_metrics(metrics_path(folder, task, phase))]
    return [loss for loss in found if loss is not None]


@pytest.mark.exhaustive
def test_each_logger_has_every_step_once_and_what_describes_the_run(tmp_path):
    done = train(*SMALL, ALL, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_all_complete(tmp_path)


@pytest.mark.exhaustive
def test_a_run_that_is_killed_goes_on_in_the_runs_of_its_loggers(tmp_path):
    folder = tmp_path / "run"
    process = warm.Process("packnet-train", *SMALL, ALL, cwd=tmp_path)
    assert warm.kill_after(process, lambda: rows(folder, "digits", "retrain") >= 3)
    process = warm.Process("packnet-resume", "run", cwd=tmp_path)
    assert warm.kill_after(process, lambda: rows(folder, "greek", "train") >= 4)
    done = run("packnet-resume", "run", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_all_complete(tmp_path)
    # Offline a process has a folder, all of one run.
    assert len({path.name for path in wandb_files(folder)}) == 1
    assert len(wandb_files(folder)) == 3


@pytest.mark.exhaustive
def test_a_task_that_begins_anew_with_other_settings_has_steps_of_its_own(tmp_path):
    folder = tmp_path / "run"
    process = warm.Process("packnet-train", *SMALL, "debug.max_epochs=40", "logger=[tensorboard,mlflow]", cwd=tmp_path)
    assert warm.kill_after(process, lambda: rows(folder, "digits", "train") >= 8)
    old = in_mlflow(uri(tmp_path))["digits/train/loss"]
    done = run("packnet-resume", "run", "sequence.tasks.digits.train.lr=0.001", "debug.max_epochs=3", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    kept = in_mlflow(uri(tmp_path))["digits/train/loss"]
    assert kept[: len(old)] == old
    new = [(step, value) for step, value in kept[len(old) :]]
    assert [value for _, value in new] == losses(folder, "digits", "train")
    assert new[0][0] > old[-1][0]
    # Readers of TensorBoard's files forget the first try.
    assert in_tensorboard(folder)["digits/train/loss"] == [(step, pytest.approx(value)) for step, value in new]


@pytest.mark.exhaustive
def test_a_logger_that_comes_later_gets_what_was_before(tmp_path):
    assert train(*SMALL, "sequence.order=[digits]", cwd=tmp_path).returncode == 0
    words = ["sequence.add=[greek]", "logger=[tensorboard,wandb,mlflow]", "prune.last=true"]
    done = run("packnet-resume", "run", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert_all_complete(tmp_path)


@pytest.mark.exhaustive
def test_jobs_of_a_sweep_are_runs_of_one_group_also_where_one_trains_for_all(tmp_path):
    words = ["-m", "prune.ratio=0.5,0.75", "sweep.share=true", "hydra.sweep.dir=sweep", "logger=[tensorboard,mlflow]"]
    done = train(*SMALL[:-1], *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    _, runs = mlflow_runs(uri(tmp_path))
    assert {found.data.tags["sweep"] for found in runs} == {"sweep"}
    names = {found.info.run_name for found in runs}
    assert len(names) == 2
    assert all("prune.ratio=" in name for name in names)
    curves = [in_tensorboard(tmp_path / "sweep" / number)["digits/train/loss"] for number in "01"]
    assert curves[0] == curves[1]
    assert len(curves[0]) == 3


@pytest.mark.exhaustive
def test_only_the_first_process_logs(tmp_path):
    words = ["trainer=ddp", "trainer.devices=2", "optim.batch_size=16", "logger=[tensorboard,mlflow]"]
    done = run_installed("packnet-train", *SMALL, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for metrics in (in_tensorboard(tmp_path / "run"), in_mlflow(uri(tmp_path))):
        assert_complete(metrics, tmp_path / "run")


@pytest.mark.exhaustive
def test_methods_that_own_nothing_and_learn_at_once(tmp_path):
    done = train(*SMALL, "method=joint", "logger=tensorboard", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    metrics = in_tensorboard(tmp_path / "run")
    assert len(metrics["joint/train/val_accuracy"]) == 3
    assert len(metrics["digits/test_accuracy"]) == len(metrics["greek/test_accuracy"]) == 1
    assert not any("prune" in name or "capacity" in name for name in metrics)


@pytest.mark.slow
def test_a_logger_of_a_users_own(tmp_path):
    target = "+logger.mine._target_=tests.toy_package.lines.LineLogger"
    words = [target, "+logger.mine.path=lines.jsonl", "logger=tensorboard", "sequence.order=[digits]"]
    done = train(*SMALL, *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (tmp_path / "lines.jsonl").read_text().splitlines()]
    assert lines[0]["prune.ratio"] == 0.5
    logged = [line["digits/train/loss"] for line in lines if "digits/train/loss" in line]
    assert logged == losses(tmp_path / "run", "digits", "train")
    assert lines[-1] == {"ended": "success"}
    assert [loss for _, loss in in_tensorboard(tmp_path / "run")["digits/train/loss"]] == pytest.approx(logged)
    assert metrics_path(tmp_path / "run", "digits", "train").exists()


def test_nothing_is_logged_where_nothing_shall_be(tmp_path):
    done = train(*SMALL, "logger=none", "sequence.order=[digits]", "debug.max_epochs=1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert not metrics_path(tmp_path / "run", "digits", "train").exists()
    assert not (tmp_path / "run" / "loggers.json").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["logger=[csv,wandbb]"], "there is no logger=wandbb; did you mean wandb?"),
        (["logger=csv,wandb"], "'logger=[csv,wandb]' for a list"),
        (["+logger.mine=3"], "logger.mine is 3; a logger of your own has a name and a class"),
        (["logger=wandb", "logger.wandb.projet=x"], "there is no option logger.wandb.projet; did you mean"),
        (["+logger.mine._target_=pytorch_lightning.loggers.CommetLogger"], "logger.mine._target_ is"),
        (["logger=mlflow", "logger.mlflow.tracking_uri=nowhere://x"], "logger=mlflow cannot begin: "),
    ],
)
def test_what_is_wrong_with_a_logger_is_said_in_one_line(tmp_path, words, message):
    done = train(*SMALL, *words, cwd=tmp_path)
    assert done.returncode == 2
    assert message in last_line(done.stderr)
    assert len(done.stderr.strip().splitlines()) == 1
