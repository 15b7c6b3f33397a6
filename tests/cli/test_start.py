"""From the command line to the first batch: composed once, with main configurations of the user's own."""

import json
import sys

from hydra._internal.config_loader_impl import ConfigLoaderImpl

from tests.support import warm

SMALL = ["debug=tiny", "debug.fraction=0.02", "sequence.order=[digits]", "arch.stages=[[4],[8],[8]]", "arch.hidden=16"]


def say_when_composing():
    load = ConfigLoaderImpl.load_configuration

    def said(*arguments, **options):
        sys.stderr.write("COMPOSED\n")
        return load(*arguments, **options)

    ConfigLoaderImpl.load_configuration = said


def test_a_run_is_composed_once(tmp_path):
    words = [*SMALL, "hydra.run.dir=r", "hydra.job.chdir=true"]
    done = warm.run("packnet-train", *words, cwd=tmp_path, before=say_when_composing)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("COMPOSED") == 1
    assert {".hydra", "run.yaml", "results.json", "packnet-train.log"} <= {
        path.name for path in (tmp_path / "r").iterdir()
    }
    assert (tmp_path / "r" / ".hydra" / "overrides.yaml").read_text().splitlines() == [f"- {word}" for word in SMALL]


def test_a_main_configuration_of_the_users_own_is_planned_and_trained(tmp_path):
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "mine.yaml").write_text("defaults:\n  - train\n  - _self_\nseed: 7\n")
    words = ["--config-dir", "own", "--config-name", "mine", *SMALL]
    done = warm.run("packnet-plan", *words, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    done = warm.run("packnet-train", *words, "hydra.run.dir=r", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "r" / "results.json").read_text())["seed"] == 7


def test_a_plan_to_go_on_where_no_run_is_is_refused(tmp_path):
    done = warm.run("packnet-plan", "resume=true", "hydra.run.dir=nosuch", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "packnet-plan: resume=true, but there is no run in nosuch: it has no run.yaml\n"
    assert list(tmp_path.iterdir()) == []
